"""The same pages through several models: how an operator chooses a default, with proof."""

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Annotated, Any

from PIL import Image
from prefect import flow, get_run_logger
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from pydantic import Field

from panelworks.domain.options import EnhanceOptions
from panelworks.errors import Rejected
from panelworks.page.comparison import Candidate, Trial, contact_sheet
from panelworks.page.engine import get_engine
from panelworks.settings import get_settings
from panelworks.storage import open_folder
from tasks.try_candidate import try_candidate

_WIDEST = 1400
"""Pixels of the sheet in the artifact; the file has all of them."""


@flow(
    name="compare-models",
    description="Compare models on the same pages: scores, seconds, memory, cost, and crops at 100 %.",
    result_serializer="json",
)
async def compare_models(
    pages: Annotated[list[str], Field(min_length=1)],
    models: Annotated[list[str], Field(min_length=1)] = ["auto", "lanczos"],  # noqa: B006 - the form shows it
    options: EnhanceOptions = EnhanceOptions(),  # noqa: B008 - frozen, and the form shows it
    variations: list[EnhanceOptions] = [],  # noqa: B006 - as above
    out: str | None = None,
    price_per_hour: float | None = None,
) -> list[Trial]:
    """Try every model, and every further variation, on every page. Nothing is delivered.

    Args:
        pages: Paths or addresses of pages.
        models: Names of models or paths of weight files.
        options: What is the same for all of these models.
        variations: Whole settings to compare beside them.
        out: Folder or s3://bucket/prefix for the table and the contact sheet; empty takes PANELWORKS_OUT.
        price_per_hour: What an hour of this machine costs, for the price of a thousand pages.
    """
    labels = [Path(model).stem for model in models]
    labels = [
        model if labels.count(label) > 1 else label for model, label in zip(models, labels, strict=True)
    ]
    candidates = [
        Candidate(label=label, options=options.model_copy(update={"model": model}))
        for model, label in zip(models, labels, strict=True)
    ]
    candidates += [
        Candidate(label=f"variation {n}", options=one) for n, one in enumerate(variations, start=1)
    ]
    trials = [
        trial
        for page in pages
        for candidate in candidates
        if (trial := _tried(page, candidate, price_per_hour)) is not None
    ]
    if not trials:
        raise Rejected("nothing_compared", "None of the pages could be read.")
    sheet = await asyncio.to_thread(contact_sheet, trials, get_engine())
    _write(trials, sheet, out or get_settings().default_out)
    await acreate_table_artifact(_rows(trials), key="comparison", description="Higher scores are better.")
    await acreate_markdown_artifact(
        f"# Crops at 100 %\n\n![contact sheet]({_inline(sheet)})",
        key="contact-sheet",
        description="Crops of all trials side by side.",
    )
    return trials


def _tried(page: str, candidate: Candidate, price_per_hour: float | None) -> Trial | None:
    """One trial; a page that cannot be read is told of and left out."""
    try:
        return try_candidate(page, candidate, price_per_hour)
    except Rejected as error:
        get_run_logger().warning("%s is left out: %s", page, error)
        return None


def _rows(trials: list[Trial]) -> list[dict[str, Any]]:
    return [trial.model_dump(exclude={"original", "master"}) for trial in trials]


def _write(trials: list[Trial], sheet: Image.Image, out: str) -> None:
    folder = open_folder(out, get_settings())
    table = "".join(json.dumps(row) + "\n" for row in _rows(trials))
    folder.write("comparison/trials.jsonl", table.encode(), "application/x-ndjson")
    folder.write("comparison/contact-sheet.png", _encoded(sheet, "PNG"), "image/png")


def _inline(sheet: Image.Image) -> str:
    """The sheet as an address that a browser can show without asking anybody."""
    small = sheet.copy()
    small.thumbnail((_WIDEST, 10 * _WIDEST))
    return "data:image/webp;base64," + base64.b64encode(_encoded(small, "WEBP")).decode()


def _encoded(image: Image.Image, format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()
