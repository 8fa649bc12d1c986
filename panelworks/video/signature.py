"""Identification of videos by their first bytes. Used in the child process as well; it imports only the standard library."""

from typing import Final

VIDEO_SUFFIXES: Final = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv"})
"""Extensions of files that are read as videos if their content is one."""
_MATROSKA: Final = b"\x1a\x45\xdf\xa3"
_BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_PICTURE_BRANDS: Final = frozenset(
    {
        b"heic",
        b"heix",
        b"heim",
        b"heis",
        b"hevc",
        b"hevx",
        b"hevm",
        b"hevs",
        b"mif1",
        b"msf1",
        b"avif",
        b"avis",
        b"crx ",
    }
)
"""Major brands of pictures in the same container: HEIC, AVIF, Canon's raw format."""


def demuxer_of(head: bytes) -> str | None:
    """FFmpeg's name of the demuxer for a file with these first bytes; None if it is no video."""
    if head.startswith(_MATROSKA):
        return "matroska"
    if head[4:8] in _BOXES and not (head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS):
        return "mov"
    return None


def is_video(head: bytes) -> bool:
    """Do these first bytes (12 at least) belong to a video in a container that is read?"""
    return demuxer_of(head) is not None
