"""What a run shows in the UI: the page before and after, and its figures."""

import base64
from typing import Any
from urllib.parse import quote

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from panelworks import pictures
from panelworks.domain.request import PageRequest
from panelworks.domain.result import ArtifactRef, Attempt, GpuUse, PageResult, Verdict
from panelworks.page.engine import get_engine
from panelworks.pictures import Picture
from panelworks.settings import get_settings
from panelworks.text import code_span, escape_markdown

_THUMBNAIL = (300, 430)
"""Box of the pictures in an artifact, in pixels: small enough to be stored as text."""


async def show(request: PageRequest, result: PageResult) -> None:
    """Create the before/after artifact and the table of figures of a delivered page.

    The page is delivered by now: what goes wrong here is a warning.
    """
    try:
        await acreate_markdown_artifact(
            _before_and_after(result),
            key="before-and-after",
            description="The page before and after, what was noted, and where its files are.",
        )
        description = f"Scores, variants and GPU of job {escape_markdown(request.job_id)}"
        await acreate_table_artifact(_figures(result), key="figures", description=description)
    except Exception as error:  # noqa: BLE001 - whatever the server or the store answers
        get_run_logger().warning("the page is delivered, but not shown here (%s)", type(error).__name__)


async def show_verdict(attempt: Attempt, verdict: Verdict) -> None:
    """Create the table of what validation asked of an attempt."""
    rows = [
        {
            "check": check.name,
            "passed": "yes" if check.passed else "NO",
            "value": round(check.value, 4),
            "limit": check.limit,
            "says": check.message,
        }
        for check in verdict.checks
    ]
    outcome = "passed" if verdict.passed else escape_markdown(verdict.reason)
    description = f"{escape_markdown(attempt.plan.model)}: {outcome}"
    try:
        await acreate_table_artifact(rows, key="verdict", description=description)
    except Exception as error:  # noqa: BLE001 - as above
        get_run_logger().warning("the verdict is not shown here (%s)", type(error).__name__)


def _before_and_after(result: PageResult) -> str:
    quality, source, master = result.quality, result.source, result.master
    if quality is None or source is None or master is None:
        raise ValueError("only a delivered page can be shown")
    engine = get_engine()
    original = ArtifactRef(
        sha256=source.sha256,
        uri=source.uri,
        media_type=pictures.MEDIA_TYPES[source.format],
        width=source.width,
        height=source.height,
        bytes=source.bytes,
    )
    before, after = _inline(engine.picture(original)), _inline(engine.picture(master))
    notes = "\n".join(f"- {escape_markdown(note)}" for note in (*result.notes, *_fallback_story(result)))
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
    return "\n".join(f"- {link}: {code_span(uri)}" for link, (_, uri) in zip(links, files, strict=True))


def _fallback_story(result: PageResult) -> list[str]:
    if result.fallback is None:
        return []
    attempts = [
        f"fallback, {one.name}: {one.reason}"
        + (f", score {one.score:.2f}" if one.score is not None else "")
        + (" (taken)" if one.taken else "")
        for one in result.fallback.attempts
    ]
    return [f"the plan failed: {result.fallback.reason}", *attempts]


def _figures(result: PageResult) -> list[dict[str, Any]]:
    quality = result.quality
    rows: list[dict[str, Any]] = []
    if quality is not None:
        names = ("overall", "resolution", "technical")
        pairs = [(name, getattr(quality.before, name), getattr(quality.after, name)) for name in names]
        pairs += [
            (n, quality.before.components[n], quality.after.components[n]) for n in quality.before.components
        ]
        rows += [{"what": name, "before": before, "after": after} for name, before, after in pairs]
    if result.gpu is not None:
        rows.append({"what": "GPU", "before": "", "after": _gpu(result.gpu)})
    rows += [
        {
            "what": f"variant {v.name}",
            "before": "",
            "after": f"{v.width} x {v.height} {v.format}, {v.bytes} bytes",
        }
        for v in result.variants
    ]
    return rows


def _gpu(use: GpuUse) -> str:
    memory = f"{use.memory_bytes / 2**30:.1f} of {use.memory_total_bytes / 2**30:.1f} GiB"
    busy = "" if use.utilisation is None else f", busy {100 * use.utilisation:.0f} % of the time"
    return f"{use.name}: {memory}{busy}"


def _inline(picture: Picture) -> str:
    """A thumbnail as a data URI: a browser can load it wherever the master lies."""
    small = pictures.resize(picture, pictures.fit_size(picture.size, _THUMBNAIL))
    return "data:image/jpeg;base64," + base64.b64encode(pictures.encode(small, "jpeg", 80)).decode("ascii")
