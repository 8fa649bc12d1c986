"""Sources that are pictures or moments of videos: the bytes of one picture.

The frame of a video is a PNG file from here on: content key, cache and record are those of this file.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from panelworks.errors import Misconfigured, Rejected
from panelworks.pictures.encode import encode
from panelworks.settings import Settings
from panelworks.sources.fetch import Fetched, fetch, safe_stem, shown
from panelworks.sources.web import download_to
from panelworks.storage.location import Location
from panelworks.storage.s3 import S3Folder
from panelworks.text import address_to_path, path_to_text, to_printable
from panelworks.video.clip import Clip
from panelworks.video.moment import (
    BEST,
    Moment,
    format_time,
    has_video_suffix,
    split_moment,
    with_moment,
    without_moment,
)
from panelworks.video.signature import is_video

_HEAD_BYTES: Final = 64


@dataclass(frozen=True)
class LocalFile:
    """A source on this machine, for as long as it is needed."""

    path: Path
    stem: str
    """File name without folder and extension, safe as part of an object name."""
    uri: str
    """The address for display."""


def fetch_picture(source: str, settings: Settings) -> Fetched:
    """Read a source. If it is a video or a moment of one, the bytes are those of a frame, as PNG.

    A source is read as a video if a moment (`#t=12.5`, `#best`) follows its address, or if the address has the extension of a
    video; in both cases its content must be one. Without a moment it is the frame that represents the video.

    Raises:
        PanelworksError: as `panelworks.sources.fetch.fetch` and `panelworks.video.clip.Clip`.
        Rejected: `not_a_video`, the moment of something else; `bad_time`.
        Misconfigured: `missing_extra`.
    """
    if source.startswith(("data:", "stored:")) or _is_named_like_a_moment(source):
        return fetch(source, settings)
    address, moment = split_moment(source)
    if not has_video_suffix(address) and (moment is None or address.startswith("s3://")):
        return fetch(source, settings)  # keys of objects may contain any #
    with local_file(address, settings) as file:
        if is_video(_head_of(file.path)):
            return _fetch_frame(file, moment or BEST, settings, is_named=moment is not None)
        if moment is not None:
            raise Rejected(
                "not_a_video", f"{to_printable(file.uri)} is not a video; only videos have moments."
            )
        return _read_misnamed(file, settings)


@contextmanager
def local_file(address: str, settings: Settings) -> Iterator[LocalFile]:
    """The file of an address, at most `settings.max_video_bytes`. Files from elsewhere exist during the block.

    Raises:
        PanelworksError: as `panelworks.sources.fetch.fetch`.
    """
    most = settings.max_video_bytes
    if address.startswith(("https:", "http:", "s3://")):
        with tempfile.TemporaryDirectory(prefix="panelworks-") as folder:
            path = Path(folder) / "video"
            try:
                if address.startswith("s3://"):
                    _download_object(address, path, settings)
                else:
                    with path.open("wb") as file:
                        download_to(file, address, settings, most)
            except OSError as error:
                raise Misconfigured(
                    "disk_full", f"The video cannot be copied to a temporary file ({error.strerror})."
                ) from error
            stem = safe_stem(urlsplit(address).path if not address.startswith("s3://") else address)
            yield LocalFile(path, stem, shown(address))
        return
    if Location.parse(address).scheme not in ("", "file"):
        fetch(address, settings)  # refuses other addresses
    path = address_to_path(address)
    try:
        if not path.is_file():
            raise Rejected("not_found", f"There is no file at {to_printable(path_to_text(path))}.")
        size, uri = path.stat().st_size, path.resolve().as_uri()
    except (OSError, ValueError) as error:
        raise Rejected(
            "unreadable", f"{to_printable(path_to_text(path))} cannot be read ({type(error).__name__})."
        ) from error
    _check_size(size, most)
    yield LocalFile(path, safe_stem(path_to_text(path.name)), uri)


def _download_object(address: str, path: Path, settings: Settings) -> None:
    place = Location.parse(address)
    folder = S3Folder(place.bucket, "", settings)
    info = folder.info(place.key)
    if info is None:
        raise Rejected("not_found", f"There is no object {address}.")
    _check_size(info.bytes, settings.max_video_bytes)
    folder.download(place.key, path)


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise Rejected("too_large", f"The video has more than {most / 2**20:.0f} MiB, which is the limit.")


def _fetch_frame(file: LocalFile, moment: Moment, settings: Settings, *, is_named: bool) -> Fetched:
    with Clip(file.path, settings) as clip:
        notes: tuple[str, ...] = ()
        if moment.seconds is None:
            survey = clip.survey()
            frame, notes = clip.read(clip.best(survey)), survey.notes
        else:
            frame = clip.read(moment.seconds)
    how = "" if is_named else "; #t=12.5 after the address names another one"
    note = f"video: the frame at {frame.seconds:.3f} s of {max(clip.duration, frame.seconds):.3f} s was used{how}"
    return Fetched(
        encode(frame.picture, "png"),
        f"{file.stem}-{format_time(frame.seconds)}",
        with_moment(file.uri, frame.seconds),
        (note, *notes, *frame.notes),
    )


def _read_misnamed(file: LocalFile, settings: Settings) -> Fetched:
    """A file that is not a video in spite of its extension."""
    with file.path.open("rb") as content:
        data = content.read(settings.max_source_bytes + 1)
    if len(data) > settings.max_source_bytes:
        raise Rejected(
            "too_large",
            f"The file has more than {settings.max_source_bytes / 2**20:.0f} MiB, which is the limit.",
        )
    return Fetched(data, file.stem, file.uri)


def _head_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise Rejected(
            "unreadable", f"{to_printable(path_to_text(path))} cannot be read ({type(error).__name__})."
        ) from error


def _is_named_like_a_moment(source: str) -> bool:
    """Is there a local file whose whole name looks like a moment, such as `page#best`?"""
    if without_moment(source) == source or Location.parse(source).scheme:
        return False
    try:
        return address_to_path(source).is_file()
    except (OSError, ValueError):
        return False
