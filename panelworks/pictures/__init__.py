"""Pictures: decoding by content, colour, alpha, resizing and encoding."""

from panelworks.pictures.decode import Decoded, Header, decode, read_header
from panelworks.pictures.encode import encode
from panelworks.pictures.formats import FORMAT_SIDE_LIMITS, MEDIA_TYPES, PictureFormat
from panelworks.pictures.picture import Picture
from panelworks.pictures.resample import fit_size, resize

__all__ = [
    "FORMAT_SIDE_LIMITS",
    "MEDIA_TYPES",
    "Decoded",
    "Header",
    "Picture",
    "PictureFormat",
    "decode",
    "encode",
    "fit_size",
    "read_header",
    "resize",
]
