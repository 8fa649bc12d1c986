"""Pictures: decoding by content, colour, alpha, resizing and encoding."""

from panelworks.domain.formats import FORMAT_SIDE_LIMITS, MEDIA_TYPES, PICTURE_SUFFIXES, PictureFormat
from panelworks.pictures.decode import Decoded, decode, is_picture, read_header
from panelworks.pictures.encode import encode
from panelworks.pictures.picture import Picture
from panelworks.pictures.pixel_data import Header
from panelworks.pictures.resample import fit_size, resize
from panelworks.pictures.tiff_directories import count_tiff_pages, missing_tiff_pages, split_tiff

__all__ = [
    "FORMAT_SIDE_LIMITS",
    "MEDIA_TYPES",
    "PICTURE_SUFFIXES",
    "Decoded",
    "Header",
    "Picture",
    "PictureFormat",
    "count_tiff_pages",
    "decode",
    "encode",
    "fit_size",
    "is_picture",
    "missing_tiff_pages",
    "read_header",
    "resize",
    "split_tiff",
]
