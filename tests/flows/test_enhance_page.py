"""The flow on a real Prefect server: its result, task runs, cache and failures."""

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun

from flows.enhance_page import enhance_page
from flows.reenhance import reenhance
from panelworks import EnhanceOptions, PageResult, Rejected, enhance_picture
from panelworks.accounting.ledger import open_ledger
from panelworks.domain.request import Origin
from panelworks.domain.treatment import Treatment
from panelworks.errors import Misconfigured
from panelworks.page.callbacks import SIGNATURE, verify
from panelworks.page.engine import get_engine
from panelworks.page.series import SeriesRule
from panelworks.settings import Settings, get_settings
from tests.networks import random_compact
from tests.pages import write_page
from tests.servers import QuietHandler, serving


def run(source: Path, out: Path, job: str, **options: Any) -> PageResult:
    return asyncio.run(
        enhance_page(
            str(source), str(out), EnhanceOptions.model_validate(options), False, job, Origin(tool="test")
        )
    )


async def _read_run(
    name_like: str, last_task: str
) -> tuple[FlowRun, list[TaskRun], list[FlowRun], list[Artifact]]:
    """The run, its tasks once the last one has reached the server (as an event, a little later),
    its subflows and its artifacts."""
    async with get_client() as client:
        runs = [run for run in await client.read_flow_runs(limit=200) if name_like in run.name]
        parent = next(run for run in runs if run.parent_task_run_id is None)
        this = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[parent.id]))
        for _ in range(60):
            tasks = await client.read_task_runs(task_run_filter=this)
            if any(task.name == last_task and task.state and task.state.is_final() for task in tasks):
                break
            await asyncio.sleep(0.5)
        inside = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent.id]))
        children = await client.read_flow_runs(flow_run_filter=inside)
        shown = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[parent.id]))
        artifacts = await client.read_artifacts(artifact_filter=shown)
        return parent, tasks, children, artifacts


def _fresh_engine(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """An engine with an empty store and cache, as on another machine."""
    monkeypatch.setenv("PANELWORKS_CACHE_DIR", str(cache))
    get_settings.cache_clear()
    get_engine.cache_clear()


def test_both_modes_give_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [
        write_page(tmp_path / "colour.png", seed=5),
        write_page(tmp_path / "tone.png", look="screentone", seed=6),
        write_page(tmp_path / "ink.png", look="ink", seed=7),
    ]
    garbage = str(random_compact(tmp_path / "garbage.safetensors", strength=3.0))
    choices: list[dict[str, Any]] = [{}, {"scale": 1.5, "preset": "sora"}, {"model": garbage}]
    for page, options in zip(pages, choices, strict=True):
        records, files = [], []
        for mode in ("direct", "flow"):
            out = tmp_path / mode
            _fresh_engine(monkeypatch, tmp_path / f"cache-{mode}")
            if mode == "flow":
                result = run(page, out, "job", **options)
            else:
                result = enhance_picture(page, out, options=EnhanceOptions.model_validate(options))
            assert result.status == "success"
            record = result.model_dump_json(exclude={"job_id", "seconds", "cost"})
            records.append(record.replace(out.as_uri(), "OUT"))
            written = sorted(p for p in out.rglob("*.*") if p.is_file() and p.suffix != ".json")
            files.append({str(p.relative_to(out)): p.read_bytes() for p in written})
        assert records[0] == records[1]
        assert files[0] == files[1]


def test_a_run_shows_its_stages_and_its_pictures(tmp_path: Path) -> None:
    result = run(write_page(tmp_path / "shown-page.png", seed=11), tmp_path / "out", "job-1")
    assert result.job_id == "job-1"
    flow_run, tasks, children, artifacts = asyncio.run(_read_run("shown-page", "publish"))
    assert flow_run.name == "shown-page for comic-page"
    assert [task.name for task in sorted(tasks, key=lambda task: task.start_time or 0)] == [
        "ingest",
        "assess",
        "enhance with panelworks-2x",
        "validate panelworks-2x",
        "make variants",
        "publish",
    ]
    assert children == []
    (artifact,) = (one for one in artifacts if one.key is not None)
    shown = str(artifact.data)
    assert (artifact.key, shown.count("data:image/jpeg;base64,")) == ("page", 2)
    assert "| overall |" in shown and "## `panelworks-2x`: passed" in shown


def test_the_second_run_is_cached(tmp_path: Path) -> None:
    page = write_page(tmp_path / "twice.png", seed=12)
    assert not run(page, tmp_path / "one", "1").cached
    again = run(page, tmp_path / "two", "2")
    assert again.cached
    assert again.job_id == "2"


def test_a_failed_validation_shows_the_fallback_subflow(tmp_path: Path) -> None:
    garbage = random_compact(tmp_path / "garbage.safetensors", strength=3.0, seed=13)
    result = run(write_page(tmp_path / "bad-model.png", seed=13), tmp_path / "out", "job", model=str(garbage))
    assert result.route == "upscaled"
    assert result.fallback
    assert result.fallback.attempts[-1].passed
    _, _, children, artifacts = asyncio.run(_read_run("bad-model for", "publish"))
    assert [child.name for child in children] == ["fall back: bad-model"]
    assert any("the plan failed" in str(artifact.data) for artifact in artifacts)


def test_earlier_stages_come_from_prefects_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash after the enhancement: the next run of the page does not enhance again."""
    page = write_page(tmp_path / "resumed.png", seed=14)
    engine = get_engine()

    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(engine, "make_variants", crash)
    with pytest.raises(RuntimeError):
        run(page, tmp_path / "out", "1")
    monkeypatch.undo()
    monkeypatch.setattr(get_engine(), "enhance", crash)
    assert run(page, tmp_path / "out", "2").route == "upscaled"


def test_a_page_follows_the_rule_that_its_series_got_meanwhile(tmp_path: Path) -> None:
    """No stage comes from Prefect's cache with the treatment that the page had before, nor does its score."""
    page, origin = write_page(tmp_path / "series.png", seed=16), Origin(comic_id="akira")

    def process(job: str) -> PageResult:
        out = str(tmp_path / "out")
        return asyncio.run(enhance_page(str(page), out, EnhanceOptions(), False, job, origin))

    assert process("1").scale == 2
    rule = SeriesRule(owner=None, series="akira", treatment=Treatment(scale=3.5), set_by="editor")
    get_engine().series.store(rule)
    result = process("2")
    assert (result.scale, result.series_rule, result.cached) == (3.5, rule.treatment, False)
    directly = enhance_picture(page, tmp_path / "out", options=EnhanceOptions(scale=3.5), force=True)
    assert result.quality == directly.quality
    get_engine().series.remove(None, "akira")
    assert process("3").scale == 2


def test_a_lost_store_is_computed_again(tmp_path: Path, settings: Settings) -> None:
    page = write_page(tmp_path / "lost.png", seed=15)
    run(page, tmp_path / "out", "1")
    shutil.rmtree(settings.store_location)
    get_engine.cache_clear()
    result = run(page, tmp_path / "out", "2")
    assert (result.status, result.cached) == ("success", False)


def test_a_rejected_page_fails_at_once_with_its_reason(
    tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(Rejected, match="This is a text file"):
        run(tmp_path / "text.png", tmp_path / "out", "job")
    errors = [record for record in caplog.records if record.name.startswith("prefect.")]
    assert any("This is a text file" in record.getMessage() for record in errors)
    assert not [record for record in errors if record.exc_info], "an expected error is a sentence"
    flow_run, _, _, _ = asyncio.run(_read_run("text for", "ingest"))
    assert flow_run.state and flow_run.state.is_failed()
    rows = open_ledger(settings).read()
    assert rows["error"].tolist() == ["unsupported_format"]


def test_only_transient_failures_are_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from panelworks.errors import Transient
    from tasks import PAGE_TASKS

    engine, attempts = get_engine(), []
    deliver = engine.publish

    def fail_once(*arguments: Any, **options: Any) -> PageResult:
        attempts.append(1)
        if len(attempts) == 1:
            raise Transient("s3_unavailable", "Later, please.")
        return deliver(*arguments, **options)

    monkeypatch.setattr(engine, "publish", fail_once)
    monkeypatch.setattr(PAGE_TASKS["publish"], "retry_delay_seconds", [0, 0, 0])
    assert run(write_page(tmp_path / "retried.png", seed=16), tmp_path / "out", "job").status == "success"
    assert len(attempts) == 2


def test_the_run_form_has_descriptions() -> None:
    schema = enhance_page.parameters.model_dump()
    assert set(schema["properties"]) == {
        "source", "out", "options", "force", "job_id", "origin", "profile", "event",
    }  # fmt: skip
    for name, field in schema["properties"].items():
        assert field.get("description") or name in ("options", "origin"), name
    options = schema["definitions"]["EnhanceOptions"]["properties"]
    assert "dall-e" in options["preset"]["anyOf"][0]["enum"]
    assert all(field["description"] for field in options.values())


def test_run_ids_are_job_ids_when_none_is_given(tmp_path: Path) -> None:
    result = asyncio.run(
        enhance_page(str(write_page(tmp_path / "idless.png", seed=17)), str(tmp_path / "out"))
    )
    assert UUID(result.job_id)


def test_the_run_records_its_callback_and_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the run sent it, and a receiver that did not answer occupied the slot of the page for 80 s."""
    received: list[tuple[bytes, str]] = []

    class Receiver(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            received.append((self.rfile.read(int(self.headers["Content-Length"])), self.headers[SIGNATURE]))
            self.send_response(204)
            self.end_headers()

    for name in ("PANELWORKS_ALLOW_HTTP", "PANELWORKS_ALLOW_PRIVATE_ADDRESSES"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("PANELWORKS_CALLBACK_SECRET", "sesame")
    _fresh_engine(monkeypatch, tmp_path / "cache")
    page = write_page(tmp_path / "callback.png", seed=18)
    with serving(Receiver) as address:
        origin = Origin(tool="test", callback=address, metadata={"shelf": 3})
        asyncio.run(enhance_page(str(page), str(tmp_path / "out"), EnhanceOptions(), False, "job-18", origin))
        (good_id,) = get_engine().callbacks.pending()
        (tmp_path / "text.png").write_text("no picture")
        with pytest.raises(Rejected):
            asyncio.run(enhance_page(str(tmp_path / "text.png"), str(tmp_path / "out"), origin=origin))
        (bad_id,) = set(get_engine().callbacks.pending()) - {good_id}
        assert received == []
        for one in (good_id, bad_id):
            assert get_engine().callbacks.attempt(one, get_settings()).outcome == "delivered"
    good, bad = (json.loads(body) for body, _ in received)
    assert (good["event"], good["job_id"], good["metadata"]) == (
        "comic.panel.enhanced",
        "job-18",
        {"shelf": 3},
    )
    assert (bad["event"], bad["result"]["error"]["code"]) == ("comic.panel.failed", "unsupported_format")
    assert verify(received[0][0], "sesame", received[0][1], now=time.time())


def test_a_repeated_run_of_a_job_leaves_one_row(tmp_path: Path, settings: Settings) -> None:
    page = write_page(tmp_path / "again.png", seed=19)
    for _ in range(2):
        run(page, tmp_path / "out", "job-19")
    assert open_ledger(settings).read()["job_id"].tolist() == ["job-19"]


def test_an_unknown_profile_is_named(tmp_path: Path) -> None:
    page = write_page(tmp_path / "page.png", seed=20)
    with pytest.raises(Misconfigured, match="no Enhancement Profile block named 'unknown'"):
        asyncio.run(enhance_page(str(page), str(tmp_path / "out"), profile="unknown"))


def test_a_page_is_found_again_by_job_and_by_content_key(tmp_path: Path) -> None:
    first = run(write_page(tmp_path / "found.png", seed=21), tmp_path / "out", "job-21")
    for of in ("job-21", str(first.content_key)):
        again = asyncio.run(reenhance(of, EnhanceOptions(scale=1.5), str(tmp_path / "out")))
        assert (again.scale, again.source and again.source.sha256) == (
            1.5,
            first.source and first.source.sha256,
        )
    with pytest.raises(Rejected, match="Neither a finished job nor a content key"):
        asyncio.run(reenhance("nothing"))
