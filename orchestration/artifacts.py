"""What a run shows in the UI of Prefect: progress, the page before and after, verdicts, books and backfills.

Artifacts never fail a run: the page or the book is delivered, and an error here is a warning.
"""

import base64
import io
import logging
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote
from uuid import UUID

import httpx
from PIL import Image
from prefect import get_run_logger
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_table_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from panelworks import pictures
from panelworks.books.report import Statistics, report_of_backfill
from panelworks.domain.books import BackfillSummary, BookResult, book_id
from panelworks.domain.request import PageRequest
from panelworks.domain.result import Attempt, GpuUse, IngestedPage, PageResult, Verdict
from panelworks.page.comparison import Trial, table_of
from panelworks.page.engine import get_engine
from panelworks.pictures import Picture
from panelworks.progress import Progress
from panelworks.settings import get_settings
from panelworks.storage import open_folder
from panelworks.text import code_span, escape_markdown

logger = logging.getLogger(__name__)
Judged = tuple[Attempt, Verdict]

PROGRESS_DELAY_SECONDS: Final = 5.0
"""Work that ends earlier gets no progress artifact: it is a request to the server, as each of its updates."""
UPDATE_INTERVAL_SECONDS: Final = 1.0
"""Between two updates of a progress artifact."""
_SERVER_ERRORS: Final = (httpx.HTTPError, PrefectException)
"""What the client raises when the server fails. The timeout of a task, which can occur here too, is not among them."""
_SHEET_WIDTH: Final = 1400
"""Pixels of a contact sheet in an artifact; the delivered file is larger."""
_THUMBNAIL_SIZE: Final = (300, 430)
"""Box of the pictures in an artifact, in pixels: small enough to be stored as text."""


class ProgressArtifact:
    """A progress bar of the run that is current, if its work takes long."""

    def __init__(self, key: str, description: str) -> None:
        self._key, self._description = key, description
        self._artifact: UUID | None = None
        self._updated_at = time.monotonic()

    def show(self, share: float, description: str) -> bool:
        """Show the finished share, in [0, 1]; the last update is always sent, others at intervals. Was this one sent?"""
        self._description = description
        created = self._artifact is not None
        pause = UPDATE_INTERVAL_SECONDS if created else PROGRESS_DELAY_SECONDS
        if time.monotonic() - self._updated_at < pause and not (created and share >= 1):
            return False
        self._updated_at = time.monotonic()
        try:
            self._send(round(100 * min(share, 1.0), 1))
        except _SERVER_ERRORS as error:
            logger.warning("progress %s is not shown: %s", self._key, type(error).__name__)
            return False
        return True

    def update(self, share: float) -> None:
        """`show` with the same description."""
        self.show(share, self._description)

    def _send(self, percent: float) -> None:
        if self._artifact is not None:
            update_progress_artifact(self._artifact, progress=percent, description=self._description)
            return
        created = create_progress_artifact(percent, key=self._key, description=self._description)
        self._artifact = created if isinstance(created, UUID) else None


def tile_progress(page: IngestedPage) -> Progress:
    """A progress callback for the share of finished tiles, shown in the task run."""
    return ProgressArtifact("tiles", f"Tiles of {escape_markdown(page.stem)}").update


async def show_page(request: PageRequest, result: PageResult, judged: Sequence[Judged]) -> None:
    """Show a delivered page before and after, its figures, and the checks of the attempts of this run."""
    try:
        await acreate_markdown_artifact(
            "\n".join((_before_and_after(result), _figures(result), _checks_of(judged))),
            key="page",
            description=f"Job {escape_markdown(request.job_id)}: before and after, files, scores and checks.",
        )
    except Exception as error:  # noqa: BLE001 - any error of the server or the store
        get_run_logger().warning("the artifact of the page is not shown: %s", type(error).__name__)


async def show_fallback(judged: Sequence[Judged]) -> None:
    """Show the checks of all alternatives."""
    if not judged:
        return
    try:
        await acreate_markdown_artifact(
            _checks_of(judged), key="alternatives", description="The checks of each alternative."
        )
    except Exception as error:  # noqa: BLE001 - any error of the server
        get_run_logger().warning("the alternatives are not shown: %s", type(error).__name__)


def _checks_of(judged: Sequence[Judged]) -> str:
    return "\n".join(_checks(attempt, verdict) for attempt, verdict in judged)


def _checks(attempt: Attempt, verdict: Verdict) -> str:
    outcome = "passed" if verdict.passed else escape_markdown(verdict.reason)
    rows = "\n".join(
        f"| {check.name} | {'yes' if check.passed else '**no**'} | {check.value:.4g} | {check.limit:.4g}"
        f" | {escape_markdown(check.message)} |"
        for check in verdict.checks
    )
    return f"""## {code_span(attempt.plan.model)}: {outcome}

| check | passed | value | limit | |
|---|---|---|---|---|
{rows}
"""


def _before_and_after(result: PageResult) -> str:
    quality, source, master = result.quality, result.source, result.master
    if quality is None or source is None or master is None:
        raise ValueError("only a delivered page can be shown")
    engine = get_engine()
    before, after = _inline(engine.picture(source.artifact)), _inline(engine.picture(master))
    rules = [f"rule of the series: {result.series_rule.describe()}"] if result.series_rule else []
    rules += [f"rule '{result.rule.name}': {result.rule.when}"] if result.rule else []
    notes = "\n".join(
        f"- {escape_markdown(note)}" for note in (*rules, *result.notes, *_fallback_notes(result))
    )
    return f"""# {result.route}

| before | after |
|---|---|
| ![before]({before}) | ![after]({after}) |
| {source.width} x {source.height}, score {quality.before.overall:.2f} | {master.width} x {master.height}, score {quality.after.overall:.2f} |

{notes}

{_links(result)}
"""


def _links(result: PageResult) -> str:
    """Master and variants, as links where a gateway serves them."""
    gateway = get_settings().gateway_url
    files = [("master", result.master.uri)] if result.master else []
    files += [(variant.name, variant.uri) for variant in result.variants]
    base = f"{gateway}/api/enhancement/{quote(result.job_id, safe='')}/variants"
    labels = [escape_markdown(name) for name, _ in files]
    links = [
        f"[{label}]({base}/{quote(name, safe='')})" if gateway else label
        for label, (name, _) in zip(labels, files, strict=True)
    ]
    lines = [f"- {link}: {code_span(uri)}" for link, (_, uri) in zip(links, files, strict=True)]
    return "\n".join([*_review_note(result, gateway), *lines])


def _review_note(result: PageResult, gateway: str | None) -> list[str]:
    """Why a person has to see the page, with a link to it in the studio."""
    if result.review is None:
        return []
    page = (
        f"[Review this page]({gateway}/pages/{quote(result.job_id, safe='')})" if gateway else "Needs review"
    )
    return [f"**{page}**: {escape_markdown('; '.join(result.review.reasons))}", ""]


def _fallback_notes(result: PageResult) -> list[str]:
    if result.fallback is None:
        return []
    attempts = [
        f"fallback, {one.name}: {one.reason}"
        + (f", score {one.score:.2f}" if one.score is not None else "")
        + (" (taken)" if one.taken else "")
        for one in result.fallback.attempts
    ]
    return [f"the plan failed: {result.fallback.reason}", *attempts]


def _figures(result: PageResult) -> str:
    """Scores before and after, with their components, and the GPU."""
    quality = result.quality
    if quality is None:
        raise ValueError("only a delivered page can be shown")
    pairs = [
        (name, getattr(quality.before, name), getattr(quality.after, name))
        for name in ("overall", "resolution")
    ]
    pairs += [
        (name, before, quality.after.shown_components[name])
        for name, before in quality.before.shown_components.items()
    ]
    rows = "\n".join(f"| {name} | {before:.3f} | {after:.3f} |" for name, before, after in pairs)
    gpu = "" if result.gpu is None else f"\nGPU {escape_markdown(_gpu(result.gpu))}\n"
    size = quality.after.delivery
    at = (
        ""
        if size is None
        else f"Of the page at {size.width} x {size.height}, the size of its largest variant.\n\n"
    )
    return f"""## Scores

{at}| score | before | after |
|---|---|---|
{rows}
{gpu}"""


def _gpu(use: GpuUse) -> str:
    memory = f"{use.memory_bytes / 2**30:.1f} of {use.memory_total_bytes / 2**30:.1f} GiB"
    busy = "" if use.utilisation is None else f", busy {100 * use.utilisation:.0f} % of the time"
    return f"{use.name}: {memory}{busy}"


def _inline(picture: Picture) -> str:
    """A thumbnail as a data URI: a browser can load it wherever the master lies."""
    small = pictures.resize(picture, pictures.fit_size(picture.size, _THUMBNAIL_SIZE))
    return _data_uri("image/jpeg", pictures.encode(small, "jpeg", 80))


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def show_book(result: BookResult) -> None:
    """Show the figures of a book."""
    states = "\n".join(f"| {state} | {count} |" for state, count in result.states.items())
    notes = "\n".join(f"- {escape_markdown(note)}" for note in result.notes)
    refused = "\n".join(
        f"- {code_span(one.name)}: {escape_markdown(f'{one.message} [{one.code}]')}" for one in result.refused
    )
    known = (
        "Done before; nothing was opened." if result.skipped else f"{result.cached} pages were known before."
    )
    text = (
        f"# {result.pages} pages, {result.status}\n\n{_book_review_note(result)}{code_span(result.place)}\n\n{result.bytes_before / 1e6:.1f} MB ->"
        f" {result.bytes_after / 1e6:.1f} MB in {result.seconds:.1f} s. {known}\n\n"
        f"| pages | |\n|---|---|\n{states}\n\n{notes}\n{refused}\n"
    )
    try:
        create_markdown_artifact(text, key="book", description=escape_markdown(result.source))
    except Exception as error:  # noqa: BLE001 - any error of the server
        get_run_logger().warning("artifacts of the book are not shown: %s", type(error).__name__)


def _book_review_note(result: BookResult) -> str:
    """Why a person has to see the book, with a link to it in the studio."""
    if result.review is None or not result.awaits_review:
        return ""
    gateway = get_settings().gateway_url
    link = f"[Review this book]({gateway}/books/{book_id(result.out)})" if gateway else "Needs review"
    return f"**{link}**: {escape_markdown('; '.join(result.review.reasons))}\n\n"


def show_backfill(run_id: str, archive: str, summary: BackfillSummary) -> None:
    """Write the report of a backfill beside the ledger and show its figures."""
    engine = get_engine()
    try:
        statistics, html = report_of_backfill(engine.ledger.read(), run_id, archive, engine.settings)
        folder = open_folder(engine.settings.ledger_location, engine.settings)
        uri = folder.write(f"_reports/{run_id}.html", html.encode(), "text/html")
        create_markdown_artifact(
            _backfill_text(summary, statistics, uri), key="backfill", description="Results of the backfill."
        )
        create_table_artifact(list(statistics.per_book), key="books", description=f"{statistics.books} books")
        if statistics.failures:
            create_table_artifact(
                [failure.model_dump() for failure in statistics.failures],
                key="failures",
                description="What failed, and why.",
            )
    except Exception as error:  # noqa: BLE001 - any error of the server or the disk
        get_run_logger().warning(
            "artifacts of the backfill are not shown: %s: %s", type(error).__name__, error
        )


async def show_comparison(trials: Sequence[Trial], sheet: Image.Image) -> None:
    """Show the table of a comparison and its contact sheet."""
    small, buffer = sheet.copy(), io.BytesIO()
    small.thumbnail((_SHEET_WIDTH, 10 * _SHEET_WIDTH))
    small.save(buffer, "WEBP")
    address = _data_uri("image/webp", buffer.getvalue())
    await acreate_table_artifact(table_of(trials), key="comparison", description="Higher scores are better.")
    await acreate_markdown_artifact(
        f"# Crops at 100 %\n\n![contact sheet]({address})",
        key="contact-sheet",
        description="Crops of all trials side by side.",
    )


def _backfill_text(summary: BackfillSummary, statistics: Statistics, uri: str) -> str:
    routes = "\n".join(f"| {route} | {count} |" for route, count in statistics.routes.items())
    stages = "\n".join(
        f"| {stage.stage} | {stage.pages} | {stage.mean:.2f} | {stage.median:.2f} | {stage.p95:.2f} |"
        for stage in statistics.stages
    )
    failed = "\n".join(f"- {code_span(book)}: {escape_markdown(why)}" for book, why in summary.failed.items())
    failed += "".join(
        f"\n- {code_span(book)}: incomplete; its run lists what is missing" for book in summary.incomplete
    )
    failed += "".join(f"\n- {code_span(book)}: waits for review" for book in summary.waiting)
    failed += "".join(
        f"\n- {code_span(name)}: skipped: {escape_markdown(why)}" for name, why in summary.unlisted.items()
    )
    cost = "" if statistics.cost is None else f", cost {statistics.cost:.2f}"
    return f"""# {summary.books} books

{summary.done} done now, {summary.done_before} before, {len(summary.failed)} failed, {summary.left} left.
{statistics.pages} pages, {100 * statistics.success_rate:.1f} % processed, {statistics.cached} known before;
{statistics.bytes_before / 1e6:.1f} MB became {statistics.bytes_after / 1e6:.1f} MB; {statistics.device_seconds:.0f} s of the device{cost}.

Report with plots and pictures: {code_span(uri)}

| route | pages |
|---|---|
{routes}

| stage | pages | mean s | median s | 95 % s |
|---|---|---|---|---|
{stages}

{failed}
"""
