"""Finding weight files: MODEL_PATH, then the cache, then a download that is resumed and checked."""

import hashlib
import logging
import re
import time
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
_CHUNK: Final = 1 << 16
_ATTEMPTS: Final = 4
_BACKOFF_SECONDS: Final = 1.0
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def installed_path(card: ModelCard, settings: Settings) -> Path | None:
    """Where the file with the card's hash lies on this machine; None if nowhere.

    A file of the right name and another content is left alone and said so in the log.
    """
    candidates = [card.path] if card.path else settings.weight_files(card.file)
    for path in candidates:
        if not path.is_file():
            continue
        if not card.sha256 or card_digest(path) == card.sha256:
            return path
        logger.warning(
            "%s is not the file that %s names: its SHA-256 differs; it is not used", path, card.name
        )
    return None


def weights_path(card: ModelCard, settings: Settings) -> Path:
    """The weight file, downloaded first if need be.

    Raises:
        Misconfigured: `weights_changed`, the file given by its path changed or is gone;
            `weights_missing`, it cannot be downloaded, or PANELWORKS_OFFLINE is set.
        Transient: `weights_unavailable`, the download did not succeed.
    """
    path = installed_path(card, settings)
    if path is not None:
        return path
    if card.path is not None:
        raise Misconfigured("weights_changed", f"The weight file {card.path} changed or is gone.")
    if card.url is None:
        raise Misconfigured(
            "weights_missing",
            f"{card.name} is published in another form only: put {card.file} into a folder and name it in MODEL_PATH.",
        )
    if settings.offline:
        raise Misconfigured(
            "weights_missing",
            f"The weights of {card.name} are not on this machine, and PANELWORKS_OFFLINE forbids downloads:"
            f" put {card.file} into a folder and name it in MODEL_PATH.",
        )
    settings.make_cache_dir()
    return download(card, card.url, settings.weights_dir)


def pinned(card: ModelCard, settings: Settings) -> ModelCard:
    """The card with a hash: one that nobody published is taken from the first file that was found.

    Raises:
        Transient: `weights_unavailable`, there is no file yet, and it could not be downloaded.
    """
    if card.sha256:
        return card
    pin = settings.weights_dir / f"{card.file}.sha256"
    if not (pin.is_file() and _SHA256.fullmatch(pin.read_text(errors="replace").strip())):
        digest = file_digest(weights_path(card, settings))
        write_atomically(pin, digest.encode())
        logger.warning("nobody published the hash of %s: %s is taken from now on", card.name, digest)
    return card.model_copy(update={"sha256": pin.read_text(encoding="utf-8").strip()})


def download(card: ModelCard, url: str, folder: Path) -> Path:
    """Fetch `url` into `folder` under the card's name: resumed, hash-checked, renamed into place.

    Raises:
        Transient: `weights_unavailable`, the server was not reached or broke off every time.
        Misconfigured: `weights_tampered`, what arrived has another hash; it is thrown away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, partial = folder / card.file, folder / resumable_name(card.file)
    with FileLock(folder / f"{card.file}.lock"):
        if target.is_file() and file_digest(target) == card.sha256:
            return target
        _fetch_patiently(card, url, partial)
        if card.sha256 and file_digest(partial) != card.sha256:
            partial.unlink()
            raise Misconfigured(
                "weights_tampered",
                f"The file at {url} is not {card.name}: its SHA-256 differs. It was thrown away;"
                " fetch the official file by hand and name its folder in MODEL_PATH.",
            )
        publish(partial, target)
    return target


def _fetch_patiently(card: ModelCard, url: str, partial: Path) -> None:
    """Fetch with a few retries, each going on where the last one broke off."""
    failure = "the server gave no answer"
    with _progress() as progress:
        bar = progress.add_task(card.file, total=card.bytes)
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_BACKOFF_SECONDS * 2 ** (attempt - 1))
            try:
                _fetch(url, partial, progress, bar)
                return
            except httpx.ConnectError:
                raise _unavailable(card, "the server cannot be reached; is there a network?") from None
            except httpx.HTTPStatusError as error:
                failure = f"the server answered {error.response.status_code}"
                if error.response.status_code < 500:
                    raise _unavailable(card, failure) from None
            except httpx.HTTPError as error:
                failure = f"the transfer broke off ({type(error).__name__})"
        raise _unavailable(card, failure)


def card_digest(path: Path) -> str:
    """SHA-256 of a weight file, or over both files of an ncnn pair."""
    return pair_digest(path) if is_pair(path) else file_digest(path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(url: str, partial: Path, progress: Progress, bar: TaskID) -> None:
    """Append what is missing to `partial`; a server that ignores the range starts it anew."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with httpx.stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return
        response.raise_for_status()
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        progress.update(bar, completed=have if resumed else 0)
        with partial.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_bytes(_CHUNK):
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
        f" To work without a network, put {card.file} into a folder and name it in MODEL_PATH, or set"
        " PANELWORKS_OFFLINE=1: enlargements above 2x then use the bundled network.",
    )
