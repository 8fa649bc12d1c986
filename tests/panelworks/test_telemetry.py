"""Traces of the library: off by default, one trace a page, and no page waits for a collector."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from panelworks.domain.fields import read_traceparent
from panelworks.domain.request import read_generated_panel, traceparent_of
from panelworks.telemetry_export import redact
from tests.books import page_file
from tests.collector import collecting
from tests.servers import ROOT, free_port

TRACE = "0af7651916cd43dd8448eb211c80319c"
VALID = f"00-{TRACE}-b7ad6b7169203331-01"
HOSTILE = [
    "",
    VALID.upper(),
    VALID + "\n",
    VALID + "-extra",
    f"ff-{TRACE}-b7ad6b7169203331-01",
    f"00-{'0' * 32}-b7ad6b7169203331-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE}-b7ad6b7169203331-01\r\nX-Forged: 1",
    f"00-{'٣' * 32}-b7ad6b7169203331-01",
    "{{ 7 * 7 }}",
    "x" * 1_000_000,
    17,
    ["00"],
    {"a": 1},
]


def run(script: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def enhance(folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Enhance a page with the command of the library."""
    source = folder / "page.png"
    source.write_bytes(page_file(5))
    script = "from panelworks.cli.app import main; main()"
    return run(script, "enhance", str(source), "--out", str(folder / "out"), "--json", **variables)


@pytest.mark.parametrize("given", HOSTILE)
def test_a_hostile_traceparent_is_ignored(given: object) -> None:
    assert read_traceparent(given) is None
    text = json.dumps({"tool": "sora", "traceparent": given})
    if len(text) < 100_000:
        panel = read_generated_panel(text)
        assert (panel.tool, panel.origin.traceparent) == ("sora", None)
    assert traceparent_of({"event": text, "origin": {"traceparent": given}}) is None


def test_a_traceparent_is_found_in_the_origin_and_in_the_event() -> None:
    event = json.dumps({"traceparent": VALID})
    assert read_generated_panel(event).origin.traceparent == VALID
    assert traceparent_of({"event": event}) == VALID
    assert traceparent_of({"origin": {"traceparent": VALID}, "event": "{"}) == VALID
    assert [traceparent_of({"event": text}) for text in ("{", "[]", "{}")] == [None] * 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Client error for url 'https://b.s3/x.png?X-Amz-Signature=abc'", "Client error for url 'https://b.s3/x.png'"),
        ("redis://user:word@host:6379/0 is unavailable", "redis://host:6379/0 is unavailable"),
        ("https://u:p@h/x?a=1#b and s3://bucket/key", "https://h/x and s3://bucket/key"),
        ("is it away? yes # 1", "is it away? yes # 1"),
    ],
)  # fmt: skip
def test_addresses_lose_their_secrets(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_nothing_is_imported_by_default(tmp_path: Path) -> None:
    script = """
import sys
from panelworks.cli.app import main
try:
    main()
finally:
    print([name for name in sys.modules if name.startswith("opentelemetry")], file=sys.stderr)
"""
    source = tmp_path / "page.png"
    source.write_bytes(page_file(5))
    done = run(script, "enhance", str(source), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_page_is_one_trace(tmp_path: Path) -> None:
    with collecting() as collector:
        done = enhance(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert done.returncode == 0, done.stderr
    (page,) = collector.named("page")
    assert {span.trace_id for span in collector.spans} == {page.trace_id}
    stages = {span.name for span in collector.spans if span.parent_id == page.span_id}
    assert {"ingest", "assess", "enhance", "validate", "variants", "publish", "record"} <= stages
    result = json.loads(done.stdout)
    shown = {name.removeprefix("panelworks."): value for name, value in page.attributes.items()}
    assert shown["content_key"] == result["content_key"]
    assert shown["pixels"] == result["source"]["width"] * result["source"]["height"]
    assert (shown["job_id"], shown["route"]) == (result["job_id"], "upscaled")
    assert page.service == "panelworks"
    assert collector.metrics["panelworks.pages"] == 1
    assert collector.metrics["panelworks.stage.duration"] >= 7
    assert not any(str(tmp_path).encode() in body for body in collector.bodies)


def test_the_standard_variables_name_the_service(tmp_path: Path) -> None:
    with collecting() as collector:
        enhance(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=f"{collector.url}/", OTEL_SERVICE_NAME="archive")
    assert {span.service for span in collector.spans} == {"archive"}


def test_a_dead_collector_costs_one_warning(tmp_path: Path) -> None:
    done = enhance(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "success"
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert len(lines) == 1, lines
    assert "spans not exported: the collector at http://127.0.0.1:" in lines[0]


def test_without_the_extra_the_message_names_it() -> None:
    script = """
import sys
sys.modules["opentelemetry.sdk"] = None
from panelworks.cli.app import main
main(["presets"])
"""
    done = run(script, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("pip install 'panelworks[otel]'.")
    assert "Traceback" not in done.stderr
