"""The same pages with several models: how an operator chooses a default."""

import asyncio
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from orchestration.artifacts import show_comparison
from orchestration.s3_blocks import begin_run
from panelworks.domain.options import EnhanceOptions
from panelworks.errors import Rejected
from panelworks.page.comparison import Candidate, Trial, candidates_of, contact_sheet, write_comparison
from panelworks.page.engine import get_engine
from panelworks.settings import get_settings
from tasks.try_candidate import try_candidate


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
        options: Options of all models.
        variations: Further options to compare.
        out: Folder or s3://bucket/prefix for the table and the contact sheet; empty takes PANELWORKS_OUT.
        price_per_hour: Price of an hour of this machine, for the price of a thousand pages.
    """
    begin_run(out)
    trials = [
        trial
        for page in pages
        for candidate in candidates_of(models, options, variations)
        if (trial := _try(page, candidate, price_per_hour)) is not None
    ]
    if not trials:
        raise Rejected("nothing_compared", "None of the pages could be read.")
    sheet = await asyncio.to_thread(contact_sheet, trials, get_engine())
    write_comparison(trials, sheet, out or get_settings().default_out, get_settings())
    await show_comparison(trials, sheet)
    return trials


def _try(page: str, candidate: Candidate, price_per_hour: float | None) -> Trial | None:
    """One trial; a page that cannot be read is skipped."""
    try:
        return try_candidate(page, candidate, price_per_hour)
    except Rejected as error:
        get_run_logger().warning("%s is skipped: %s", page, error)
        return None
