"""Runs of pages in a process of their own continue the trace of their event."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

from panelworks.telemetry import flush_telemetry, trace_span, trace_stage
from tests.books import page_file
from tests.collector import Collector, collecting
from tests.servers import ROOT, free_port

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SCRIPT = """
import asyncio, sys
from flows.enhance_page import enhance_page
result = asyncio.run(enhance_page(sys.argv[1], job_id="gen-1", event=sys.argv[2]))
print(result.model_dump_json())
"""
TASKS = {"ingest", "assess", "enhance with panelworks-2x", "make variants", "publish"}


def run_event(folder: Path, payload: dict[str, str], endpoint: str, **variables: str) -> tuple[str, str]:
    """Run a page of an event as Prefect's process worker does; returns the standard output and error."""
    source = "data:image/png;base64," + base64.b64encode(page_file(6)).decode()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, source, json.dumps(payload)],
        env={
            **os.environ,
            "PREFECT_API_URL": PREFECT_API_URL.value() or "",
            "PREFECT_API_AUTH_STRING": str(PREFECT_API_AUTH_STRING.value()),
            "PREFECT_HOME": str(folder / "home"),
            "PANELWORKS_OUT": str(folder / "out"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            **variables,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


def test_the_stages_of_an_event_are_in_its_trace(
    collector: Collector, tmp_path: Path, prefect_server: None
) -> None:
    out, _ = run_event(tmp_path, {"tool": "sora", "traceparent": f"00-{TRACE}-{PARENT}-01"}, collector.url)
    (page,) = collector.named("page")
    assert (page.trace_id, page.parent_id, page.service) == (TRACE, PARENT, "panelworks-run")
    below = {span.name for span in collector.trace(TRACE) if span.parent_id == page.span_id}
    assert below >= TASKS | {"recall", "record"}
    (flow,) = [span for span in collector.spans if span.attributes.get("prefect.run.type") == "flow"]
    assert page.linked_traces == (flow.trace_id,)
    result = json.loads(out)
    assert page.attributes["panelworks.job_id"] == "gen-1"
    assert page.attributes["panelworks.content_key"] == result["content_key"]


def test_a_hostile_traceparent_starts_a_trace_and_lines_are_json(
    collector: Collector, tmp_path: Path, prefect_server: None
) -> None:
    payload = {"tool": "sora", "traceparent": f"00-{'0' * 32}-{PARENT}-01"}
    json_logs = {
        "LOG_FORMAT": "json",
        "PREFECT_LOGGING_FORMATTERS_JSON_CLASS": "panelworks.logs.JsonFormatter",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json",
        "PREFECT_LOGGING_COLORS": "false",
    }
    _, errors = run_event(tmp_path, payload, collector.url, **json_logs)
    (flow,) = [span for span in collector.spans if span.attributes.get("prefect.run.type") == "flow"]
    assert (flow.parent_id, collector.named("page")) == ("", [])
    assert {span.trace_id for span in collector.spans} == {flow.trace_id}
    assert {span.name for span in collector.spans if span.parent_id == flow.span_id} >= TASKS
    assert flow.attributes["panelworks.job_id"] == "gen-1"
    lines = [json.loads(line) for line in errors.splitlines()]
    finished = [line for line in lines if line["logger"] == "prefect.task_runs"]
    assert len(finished) >= len(TASKS)
    assert {line["job_id"] for line in finished} == {"gen-1"}
    assert {line["trace_id"] for line in finished} == {flow.trace_id}
    assert {line["flow_run_id"] for line in finished} == {flow.attributes["prefect.run.id"]}


def test_a_dead_collector_fails_no_run(tmp_path: Path, prefect_server: None) -> None:
    out, errors = run_event(tmp_path, {"tool": "sora"}, f"http://127.0.0.1:{free_port()}")
    assert json.loads(out)["status"] == "success"
    assert sum("not exported" in line for line in errors.splitlines()) == 1
    assert "opentelemetry" not in errors


def test_nothing_is_traced_by_default() -> None:
    with trace_span("page", job_id="j") as span, trace_stage("assess"):
        span.set(route="upscaled")
    flush_telemetry()
    assert "opentelemetry.sdk" not in sys.modules or span.__class__.__name__ == "Span"
