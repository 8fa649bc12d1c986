"""Comparison of models: the same pages with several options, with scores, cost and crops."""

import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

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
from panelworks.page.rules import choose_treatment
from panelworks.pictures import Picture, resize
from panelworks.pictures.encode import flatten_on_white
from panelworks.pictures.picture import to_image
from panelworks.quality import QualityReport
from panelworks.settings import Settings
from panelworks.storage import open_folder

_CROP_PIXELS: Final = 360
"""Side of the crops of a contact sheet, in pixels of the master: shown at 100 %."""
_LABEL_PIXELS: Final = 22
_GAP_PIXELS: Final = 8
_MEMORY_INTERVAL_SECONDS: Final = 0.05


class Candidate(Frozen):
    """One way to enhance a page."""

    label: str
    options: EnhanceOptions


class Trial(Frozen):
    """The result of one candidate on one page."""

    page: str
    label: str
    model: str
    passed: bool
    says: str
    before: float
    """Overall score of the source."""
    after: float | None
    """Overall score of the result; None if there is no result."""
    seconds: float
    memory_mib: int
    """Peak memory of the process above its start; on a GPU, the peak memory of torch."""
    cost: float | None = None
    """Price of a thousand such pages; None if the price of an hour is unknown."""
    original: ArtifactRef
    master: ArtifactRef | None = None


def candidates_of(
    models: Sequence[str], options: EnhanceOptions, variations: Sequence[EnhanceOptions] = ()
) -> list[Candidate]:
    """One candidate for each model with `options`, then one for each variation; labels are unique."""
    stems = [Path(model).stem for model in models]
    labels = [model if stems.count(stem) > 1 else stem for model, stem in zip(models, stems, strict=True)]
    candidates = [
        Candidate(label=label, options=options.model_copy(update={"model": model}))
        for model, label in zip(models, labels, strict=True)
    ]
    return candidates + [
        Candidate(label=f"variation {number}", options=one) for number, one in enumerate(variations, start=1)
    ]


def try_candidate(
    source: str, candidate: Candidate, engine: Engine, price_per_hour: float | None = None
) -> Trial:
    """Enhance a page with the options of a candidate, without the gate, and measure it. Nothing is delivered.

    Raises:
        Rejected, Transient, Misconfigured: the page cannot be read, or the model is not installed.
    """
    options = candidate.options.model_copy(update={"quality_threshold": 1.0, "technical_threshold": 1.0})
    request = PageRequest(source=source, out="", options=options, job_id=candidate.label)
    page = engine.ingest(request)
    before = engine.assess(page)
    page = choose_treatment(page, before)
    plan = chosen(page.plan, before, good=False, size=page.size) or page.plan
    page = page.model_copy(update={"plan": plan})
    with _measure_use() as spent:
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
    cell = _CROP_PIXELS + _GAP_PIXELS
    sheet = Image.new(
        "RGB",
        (cell * (len(labels) + 1) + _GAP_PIXELS, (cell + _LABEL_PIXELS) * len(pages) + _GAP_PIXELS),
        "white",
    )
    for row, page in enumerate(pages):
        of_page = [trial for trial in trials if trial.original.sha256 == page]
        top = _GAP_PIXELS + row * (cell + _LABEL_PIXELS)
        for column, (label, crop) in enumerate(_crops(of_page, labels, engine)):
            left = _GAP_PIXELS + column * cell
            ImageDraw.Draw(sheet).text((left, top), label[:52], fill="black", font=ImageFont.load_default(13))
            if crop is not None:
                sheet.paste(crop, (left, top + _LABEL_PIXELS))
    return sheet


def table_of(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The trials as rows, without their pictures."""
    return [trial.model_dump(exclude={"original", "master"}) for trial in trials]


def write_comparison(trials: Sequence[Trial], sheet: Image.Image, out: str, settings: Settings) -> None:
    """Write the table as JSON Lines and the contact sheet as PNG to `out`."""
    folder = open_folder(out, settings)
    table = "".join(json.dumps(row) + "\n" for row in table_of(trials))
    folder.write("comparison/trials.jsonl", table.encode(), "application/x-ndjson")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    folder.write("comparison/contact-sheet.png", buffer.getvalue(), "image/png")


class _Use:
    seconds = 0.0
    bytes = 0


@contextmanager
def _measure_use() -> Iterator[_Use]:
    """Measure the time of a block and the peak memory of this process."""
    reset_peak_gpu_memory()
    process, spent, over = psutil.Process(), _Use(), threading.Event()
    base = process.memory_info().rss

    def watch_memory() -> None:
        while not over.wait(_MEMORY_INTERVAL_SECONDS):
            spent.bytes = max(spent.bytes, process.memory_info().rss - base)

    watcher = threading.Thread(target=watch_memory, daemon=True)
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
    centre = _most_detailed_part(source)
    yield f"{trials[0].page} (Lanczos)", _crop(resize(source, size), centre)
    for label in labels:
        trial = next((one for one in trials if one.label == label), None)
        master = engine.picture(trial.master) if trial and trial.master else None
        caption = (
            f"{label}  {trial.after:.2f}  {trial.seconds:.1f} s"
            if trial and trial.after is not None
            else label
        )
        yield caption, None if master is None else _crop(master, centre)


def _most_detailed_part(picture: Picture) -> tuple[float, float]:
    """Centre of the part with most detail, in shares of width and height."""
    luma = picture.luma().astype(np.float32)
    detail = np.abs(np.diff(luma, axis=1))[:-1] + np.abs(np.diff(luma, axis=0))[:, :-1]
    side = max(1, min(*detail.shape, 120))
    rows, columns = max(1, detail.shape[0] // side), max(1, detail.shape[1] // side)
    blocks = detail[: rows * side, : columns * side].reshape(rows, -1, columns, side)
    means = blocks.mean(axis=(1, 3))
    row, column = np.unravel_index(int(means.argmax()), means.shape)
    return (float((column + 0.5) / columns), float((row + 0.5) / rows))


def _crop(picture: Picture, centre: tuple[float, float]) -> Image.Image:
    width, height = min(_CROP_PIXELS, picture.width), min(_CROP_PIXELS, picture.height)
    left = round(min(max(0, centre[0] * picture.width - width / 2), picture.width - width))
    top = round(min(max(0, centre[1] * picture.height - height / 2), picture.height - height))
    return to_image(flatten_on_white(picture.region(left, top, width, height))).convert("RGB")
