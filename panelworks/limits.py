"""Limits on sources: the settings that protect an installation against files and servers of strangers."""

from typing import Final, Literal

from pydantic import Field
from pydantic_settings import BaseSettings

MIB: Final = 1024 * 1024


class SourceLimits(BaseSettings):
    """A part of `Settings`. The text of each field begins with the name of its variable."""

    # Limits on sources
    max_source_bytes: int = Field(50 * MIB, ge=1)
    """PANELWORKS_MAX_SOURCE_BYTES: maximum size of a source file."""
    max_pixels: int = Field(200_000_000, ge=1)
    """PANELWORKS_MAX_PIXELS: maximum size of a source picture, width times height."""
    max_output_pixels: int = Field(400_000_000, ge=1)
    """PANELWORKS_MAX_OUTPUT_PIXELS: maximum size of an enhanced picture, width times height."""
    max_frames: int = Field(64, ge=1)
    """PANELWORKS_MAX_FRAMES: maximum frames of an animation."""
    max_animation_pixels: int = Field(1_000_000_000, ge=1)
    """PANELWORKS_MAX_ANIMATION_PIXELS: maximum size of all frames of an animation, width times height times frames."""
    max_animation_seconds: float = Field(600, gt=0)
    """PANELWORKS_MAX_ANIMATION_SECONDS: maximum duration of an animation that is played once."""
    truncated_animations: Literal["deliver", "reject"] = "deliver"
    """PANELWORKS_TRUNCATED_ANIMATIONS: whether an animation whose file ends early is delivered with its complete frames and a
    note, or rejected."""
    animation_tile_bytes: int = Field(256 * MIB, ge=0)
    """PANELWORKS_ANIMATION_TILE_BYTES: maximum memory for results of tiles that the next frames of an animation use again."""
    max_video_bytes: int = Field(2048 * MIB, ge=1)
    """PANELWORKS_MAX_VIDEO_BYTES: maximum size of a video, of which one or more frames are used."""
    max_video_seconds: float = Field(4 * 3600, gt=0)
    """PANELWORKS_MAX_VIDEO_SECONDS: maximum duration of a video."""
    max_video_pixels: int = Field(36_000_000, ge=1)
    """PANELWORKS_MAX_VIDEO_PIXELS: maximum size of a video's frame, width times height."""
    max_video_frames: int = Field(4000, ge=1)
    """PANELWORKS_MAX_VIDEO_FRAMES: maximum frames that are decoded to find scenes. Of a video with more frames, only the
    keyframes are searched."""
    video_seconds: float = Field(120, gt=0)
    """PANELWORKS_VIDEO_SECONDS: maximum time to search a video for frames, and to read one frame."""
    max_archive_entries: int = Field(15_000, ge=1)
    """PANELWORKS_MAX_ARCHIVE_ENTRIES: maximum number of files in a book."""
    max_archive_bytes: int = Field(8 * 1024 * MIB, ge=1)
    """PANELWORKS_MAX_ARCHIVE_BYTES: maximum size of an unpacked book. PANELWORKS_MAX_SOURCE_BYTES limits each file in
    it."""
    max_archive_ratio: int = Field(300, ge=1)
    """PANELWORKS_MAX_ARCHIVE_RATIO: maximum ratio of unpacked to packed size of a file that is larger than 16 MiB."""
    name_encoding: str | None = None
    """PANELWORKS_NAME_ENCODING: encoding, such as cp932, of member names that state none. Default: detected from the
    names."""
    pdf_dpi: int = Field(300, ge=36, le=1200)
    """PANELWORKS_PDF_DPI: resolution for rendering a PDF page that is not a single image."""
    parser_memory_bytes: int = Field(1_500_000_000, ge=256_000_000)
    """PANELWORKS_PARSER_MEMORY_BYTES: maximum memory of a child process that parses an untrusted file."""
    document_seconds: float = Field(60, gt=0)
    """PANELWORKS_DOCUMENT_SECONDS: maximum time to open a document and list its pages."""
    document_page_seconds: float = Field(30, gt=0)
    """PANELWORKS_DOCUMENT_PAGE_SECONDS: maximum time to read or render one page of a document."""
    picture_cache_bytes: int = Field(256 * MIB, ge=0)
    """PANELWORKS_PICTURE_CACHE_BYTES: maximum memory of decoded pictures that are cached between stages."""
    max_redirects: int = Field(5, ge=0)
    """PANELWORKS_MAX_REDIRECTS: maximum redirects of a download. Each target is checked again."""
    fetch_timeout_seconds: float = Field(30, gt=0)
    """PANELWORKS_FETCH_TIMEOUT_SECONDS: maximum time to wait for a server's next bytes."""
    fetch_deadline_seconds: float = Field(300, gt=0)
    """PANELWORKS_FETCH_DEADLINE_SECONDS: maximum time to download a file."""
    allow_private_addresses: bool = False
    """PANELWORKS_ALLOW_PRIVATE_ADDRESSES: also download from private and loopback addresses."""
    allow_http: bool = False
    """PANELWORKS_ALLOW_HTTP: also download over plain http."""
