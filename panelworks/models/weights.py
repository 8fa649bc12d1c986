"""Weight files: found in MODEL_PATH or the cache, or downloaded, with resumption and a check of the hash."""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

import httpx
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from panelworks.domain.cards import ModelCard
from panelworks.errors import Misconfigured, PanelworksError, Transient
from panelworks.models.weight_files import is_pair, pair_digest
from panelworks.settings import Settings
from panelworks.storage.atomic import publish, resumable_name, write_atomically

logger = logging.getLogger(__name__)

_TIMEOUT: Final = httpx.Timeout(30, connect=10)
_CHUNK_BYTES: Final = 1 << 16
_MAX_ATTEMPTS: Final = 4
_BACKOFF_SECONDS: Final = 1.0
_MIN_AGE_SECONDS: Final = 2.0
"""A file that was modified more recently may change again without a new modification time."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def installed_path(card: ModelCard, settings: Settings) -> Path | None:
    """The file on this machine with the hash of the card; None if there is none.

    A file with the right name and other content is skipped and logged. The hash of a file is computed again only when its
    modification time changes; `require_weights` always checks the content.
    """
    return _matching_path(card, settings, _known_digest)


def require_weights(card: ModelCard, settings: Settings) -> Path:
    """Return the weight file after checking its content. Nothing is downloaded; see `download_missing`.

    Raises:
        Misconfigured: `weights_changed`, the file given by its path changed or was removed; `weights_missing`.
    """
    path = _matching_path(card, settings, card_digest)
    if path is None:
        _digest_of_unchanged.cache_clear()  # damage does not change the modification time: the next page must check the files again
        raise _missing(card, settings)
    return path


def download_missing(cards: Iterable[ModelCard], settings: Settings) -> tuple[str, ...]:
    """Download the weights that are not installed; returns a note for each downloaded file.

    Weights without an address are skipped, and all are skipped offline: `require_weights` reports them.

    Raises:
        Transient: `weights_unavailable`, a download failed.
        Misconfigured: `weights_tampered`.
    """
    notes = []
    for card in cards:
        if card.url is None or settings.offline or installed_path(card, settings) is not None:
            continue
        settings.make_cache_dir()
        path = download(card, card.url, settings.weights_dir)
        notes.append(f"downloaded the weights of {card.name} ({path.stat().st_size / 1e6:.1f} MB)")
        logger.info("downloaded the weights of %s: %s", card.name, path)
    return tuple(notes)


def download_weights(card: ModelCard, settings: Settings) -> Path:
    """Return the weight file, after downloading it if it is missing.

    Raises:
        Misconfigured: as `require_weights`. Transient: `weights_unavailable`, the download failed.
    """
    download_missing([card], settings)
    return require_weights(card, settings)


def read_recorded_digest(card: ModelCard, settings: Settings) -> str | None:
    """The recorded SHA-256 of weights without a published hash; None before the first download."""
    record = _digest_record(card, settings)
    digest = record.read_text(errors="replace").strip() if record.is_file() else ""
    return digest if _SHA256.fullmatch(digest) else None


def record_digest(card: ModelCard, settings: Settings) -> str:
    """Return the recorded SHA-256 of weights without a published hash. If there is none, record that of the installed file.

    Raises:
        Misconfigured: `weights_missing`, there is neither a record nor a file.
    """
    digest = read_recorded_digest(card, settings)
    if digest is None:
        digest = file_digest(require_weights(card, settings))
        write_atomically(_digest_record(card, settings), digest.encode())
        logger.warning("recorded the hash of %s, which has no published hash: %s", card.name, digest)
    return digest


def _digest_record(card: ModelCard, settings: Settings) -> Path:
    return settings.weights_dir / f"{card.file}.sha256"


def _matching_path(card: ModelCard, settings: Settings, digest_of: Callable[[Path], str]) -> Path | None:
    for path in [card.path] if card.path else settings.weight_files(card.file):
        if not path.is_file():
            continue
        if not card.sha256 or digest_of(path) == card.sha256:
            return path
        logger.warning("skipped %s: its SHA-256 differs from that of %s", path, card.name)
    return None


def _missing(card: ModelCard, settings: Settings) -> Misconfigured:
    if card.path is not None:
        return Misconfigured("weights_changed", f"The weight file {card.path} was changed or removed.")
    by_hand = f"put {card.file} into a folder and name it in MODEL_PATH."
    if card.url is None:
        return Misconfigured(
            "weights_missing", f"{card.name} is published in another file format only: {by_hand}"
        )
    if settings.offline:
        return Misconfigured(
            "weights_missing",
            f"The weights of {card.name} are not on this machine, and PANELWORKS_OFFLINE forbids downloads: {by_hand}",
        )
    return Misconfigured(
        "weights_missing",
        f"The weights of {card.name} are not on this machine: run 'panelworks models fetch {card.name}', or {by_hand}",
    )


def download(card: ModelCard, url: str, folder: Path) -> Path:
    """Download `url` to `folder` under the card's file name: resumed, verified, and renamed at the end.

    Raises:
        Transient: `weights_unavailable`, the server could not be reached or the transfer failed repeatedly.
        Misconfigured: `weights_tampered`, the file has a wrong hash and was deleted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, partial = folder / card.file, folder / resumable_name(card.file)
    with FileLock(folder / f"{card.file}.lock"):
        if target.is_file() and file_digest(target) == card.sha256:
            return target
        _download_with_retries(card, url, partial)
        if card.sha256 and file_digest(partial) != card.sha256:
            partial.unlink()
            raise Misconfigured(
                "weights_tampered",
                f"The file at {url} is not {card.name}: its SHA-256 differs. It was deleted;"
                " download the official file manually and name its folder in MODEL_PATH.",
            )
        publish(partial, target)
    return target


def _download_with_retries(card: ModelCard, url: str, partial: Path) -> None:
    """Download with a few retries. Each continues where the previous one stopped."""
    failure = "the server did not answer"
    with _progress() as progress:
        bar = progress.add_task(card.file, total=card.bytes)
        for attempt in range(_MAX_ATTEMPTS):
            if attempt:
                time.sleep(_BACKOFF_SECONDS * 2 ** (attempt - 1))
            try:
                _fetch(url, partial, progress, bar)
                return
            except httpx.ConnectError:
                raise _unavailable(card, "the server cannot be reached") from None
            except httpx.HTTPStatusError as error:
                failure = f"the server answered {error.response.status_code}"
                if error.response.status_code < 500:
                    raise _unavailable(card, failure) from None
            except httpx.HTTPError as error:
                failure = f"the transfer failed ({type(error).__name__})"
        raise _unavailable(card, failure)


def card_digest(path: Path) -> str:
    """SHA-256 of a weight file, or over both files of an ncnn pair."""
    return pair_digest(path) if is_pair(path) else file_digest(path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known_digest(path: Path) -> str:
    """The SHA-256 of a file, computed again only if its modification time, size or inode changed.

    The hash of a recently modified file is not cached.
    """
    status = path.stat()
    if time.time() - status.st_mtime < _MIN_AGE_SECONDS or is_pair(path):
        return card_digest(path)
    return _digest_of_unchanged(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest_of_unchanged(path: Path, inode: int, size: int, modified_ns: int) -> str:
    return card_digest(path)


def _fetch(url: str, partial: Path, progress: Progress, bar: TaskID) -> None:
    """Append the missing bytes to `partial`. If the server ignores the range, the file is written from the start."""
    existing = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={existing}-"} if existing else {}
    with httpx.stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return
        response.raise_for_status()
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        progress.update(bar, completed=existing if resumed else 0)
        with partial.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                file.write(chunk)
                progress.advance(bar, len(chunk))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
    )


def _unavailable(card: ModelCard, why: str) -> PanelworksError:
    return Transient(
        "weights_unavailable",
        f"The weights of {card.name} could not be downloaded: {why}."
        f" To work offline, put {card.file} into a folder and name it in MODEL_PATH, or set"
        " PANELWORKS_OFFLINE=1: enlargements above 2x then use the bundled network.",
    )
