"""Comparing models: the same pages through several, with what each costs and how it looks."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
import psutil
from PIL import Image, ImageDraw, ImageFont

from panelworks.domain.fields import Frozen
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import PageRequest
from panelworks.domain.result import ArtifactRef, IngestedPage
from panelworks.errors import Invalid, ResourceExhausted
from panelworks.models.gpu import peak_gpu_memory, reset_peak_gpu_memory
from panelworks.page.engine import Engine
from panelworks.page.planning import chosen
from panelworks.pictures import Picture, resize
from panelworks.pictures.encode import on_paper
from panelworks.pictures.picture import to_image
from panelworks.quality import QualityReport

_CROP: Final = 360
"""Side of the crops of a contact sheet, in pixels of the master: shown at 100 %."""
_LABEL: Final = 22
_GAP: Final = 8
_LOOK_SECONDS: Final = 0.05


class Candidate(Frozen):
    """One way to enhance a page."""

    label: str
    options: EnhanceOptions


class Trial(Frozen):
    """What one candidate made of one page."""

    page: str
    label: str
    model: str
    passed: bool
    says: str
    before: float
    """Overall score of the source."""
    after: float | None
    """Overall score of the result; None when there is none."""
    seconds: float
    memory_mib: int
    """Most memory that the process took beyond what it had; on a GPU, what torch held of it."""
    cost: float | None = None
    """Price of a thousand such pages, where the price of an hour is known."""
    original: ArtifactRef
    master: ArtifactRef | None = None


def try_candidate(
    source: str, candidate: Candidate, engine: Engine, price_per_hour: float | None = None
) -> Trial:
    """Enhance a page in one way, whatever the gate would say, and measure it. Nothing is delivered.

    Raises:
        Rejected, Transient, Misconfigured: the page cannot be read, or the model is not there.
    """
    request = PageRequest(source=source, out="", options=candidate.options, job_id=candidate.label)
    page = engine.ingest(request)
    before = engine.assess(page.original)
    size = (page.original.width, page.original.height)
    plan = chosen(page.plan, before, good=False, size=size) or page.plan
    page = page.model_copy(update={"plan": plan})
    with _watched() as spent:
        passed, says, master, after = _attempt(page, before, engine)
    return Trial(
        page=page.stem,
        label=candidate.label,
        model=plan.model,
        passed=passed,
        says=says,
        before=before.overall,
        after=after,
        seconds=round(spent.seconds, 2),
        memory_mib=spent.bytes // 2**20,
        cost=None if price_per_hour is None else round(spent.seconds / 3.6 * price_per_hour, 2),
        original=page.original,
        master=master,
    )


def contact_sheet(trials: Sequence[Trial], engine: Engine) -> Image.Image:
    """A row a page: the source enlarged without a network, then each candidate, cropped at 100 %.

    The crop is where the page has most detail; it is the same place in all columns.
    """
    pages = list(dict.fromkeys(trial.original.sha256 for trial in trials))
    labels = list(dict.fromkeys(trial.label for trial in trials))
    cell = _CROP + _GAP
    sheet = Image.new("RGB", (cell * (len(labels) + 1) + _GAP, (cell + _LABEL) * len(pages) + _GAP), "white")
    for row, page in enumerate(pages):
        of_page = [trial for trial in trials if trial.original.sha256 == page]
        top = _GAP + row * (cell + _LABEL)
        for column, (label, crop) in enumerate(_crops(of_page, labels, engine)):
            left = _GAP + column * cell
            ImageDraw.Draw(sheet).text((left, top), label[:52], fill="black", font=ImageFont.load_default(13))
            if crop is not None:
                sheet.paste(crop, (left, top + _LABEL))
    return sheet


class _Spent:
    seconds = 0.0
    bytes = 0


@contextmanager
def _watched() -> Iterator[_Spent]:
    """Time a block, and look at the memory of this process while it runs."""
    reset_peak_gpu_memory()
    process, spent, over = psutil.Process(), _Spent(), threading.Event()
    base = process.memory_info().rss

    def look() -> None:
        while not over.wait(_LOOK_SECONDS):
            spent.bytes = max(spent.bytes, process.memory_info().rss - base)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    began = time.perf_counter()
    try:
        yield spent
    finally:
        spent.seconds = time.perf_counter() - began
        over.set()
        watcher.join()
        spent.bytes = max(spent.bytes, peak_gpu_memory() or 0)


def _attempt(
    page: IngestedPage, before: QualityReport, engine: Engine
) -> tuple[bool, str, ArtifactRef | None, float | None]:
    try:
        attempt = engine.enhance(page, page.plan)
    except (Invalid, ResourceExhausted) as error:
        return False, error.message, None, None
    verdict = engine.validate(page, before, attempt)
    return verdict.passed, verdict.reason, attempt.master, verdict.after.overall if verdict.after else None


def _crops(
    trials: list[Trial], labels: list[str], engine: Engine
) -> Iterator[tuple[str, Image.Image | None]]:
    source = engine.picture(trials[0].original)
    sizes = [(trial.master.width, trial.master.height) for trial in trials if trial.master]
    size = max(sizes, default=source.size)
    centre = _liveliest(source)
    yield f"{trials[0].page} (Lanczos)", _cropped(resize(source, size), centre)
    for label in labels:
        trial = next((one for one in trials if one.label == label), None)
        master = engine.picture(trial.master) if trial and trial.master else None
        said = (
            f"{label}  {trial.after:.2f}  {trial.seconds:.1f} s"
            if trial and trial.after is not None
            else label
        )
        yield said, None if master is None else _cropped(master, centre)


def _liveliest(picture: Picture) -> tuple[float, float]:
    """Centre of the part with most detail, as shares of width and height."""
    luma = picture.luma().astype(np.float32)
    detail = np.abs(np.diff(luma, axis=1))[:-1] + np.abs(np.diff(luma, axis=0))[:, :-1]
    side = max(1, min(*detail.shape, 120))
    rows, columns = max(1, detail.shape[0] // side), max(1, detail.shape[1] // side)
    blocks = detail[: rows * side, : columns * side].reshape(rows, -1, columns, side)
    means = blocks.mean(axis=(1, 3))
    row, column = np.unravel_index(int(means.argmax()), means.shape)
    return (float((column + 0.5) / columns), float((row + 0.5) / rows))


def _cropped(picture: Picture, centre: tuple[float, float]) -> Image.Image:
    width, height = min(_CROP, picture.width), min(_CROP, picture.height)
    left = round(min(max(0, centre[0] * picture.width - width / 2), picture.width - width))
    top = round(min(max(0, centre[1] * picture.height - height / 2), picture.height - height))
    return to_image(on_paper(picture.region(left, top, width, height))).convert("RGB")
