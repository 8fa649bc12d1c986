"""One trace a page through the whole stack, and its log lines as JSON."""

import json

import httpx

from tests.collector import Collector, ReceivedSpan
from tests.live.stack import CALLBACK_SECRET, Stack
from tests.live.test_live import page
from tests.servers import QuietHandler, serving, until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MARK = CALLBACK_SECRET[: len(CALLBACK_SECRET) // 3]


class Receiver(QuietHandler):
    """Accepts callbacks."""

    def do_POST(self) -> None:  # noqa: N802 - the name of the base class
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()


def flow_span(collector: Collector, job_id: str) -> ReceivedSpan:
    """The span of the flow run of a job, as soon as it was received."""

    def found() -> list[ReceivedSpan]:
        return [
            span
            for span in collector.spans
            if span.attributes.get("panelworks.job_id") == job_id and span.scope == "prefect"
        ]

    until(lambda: bool(found()))
    (span,) = found()
    return span


def wait_for(collector: Collector, trace_id: str, *names: str) -> None:
    """Wait until spans of a trace were received: each process exports its own, and a request ends after its answer."""
    until(lambda: set(names) <= {span.name for span in collector.trace(trace_id)})


def test_a_posted_page_is_one_trace(on_postgres: Stack, collector: Collector) -> None:
    with serving(Receiver) as receiver:
        answer = httpx.post(
            f"{on_postgres.gateway}/api/enhancement/process?wait=150&note={MARK}",
            files={"file": ("page.png", page(3))},
            data={"callback": f"{receiver}/done?signature={MARK}"},
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
            timeout=200,
        )
        assert answer.status_code == 200, answer.text
        request = "POST /api/enhancement/process"
        wait_for(collector, TRACE, request, "create run", "notify", "deliver callback")
    job_id = answer.json()["job_id"]
    flow = flow_span(collector, job_id)
    assert flow.trace_id == TRACE
    assert collector.path(flow) == [request, "create run", flow.name]
    (received,) = [span for span in collector.trace(TRACE) if span.name == request]
    assert (received.parent_id, received.attributes["panelworks.job_id"]) == (PARENT, job_id)
    spans = collector.trace(TRACE)
    tasks = {span.name: span for span in spans if span.attributes.get("prefect.run.type") == "task"}
    assert {span.parent_id for span in tasks.values()} == {flow.span_id}
    assert {"ingest", "assess", "publish"} <= tasks.keys()
    below_tasks = [span for span in spans if span.parent_id in {task.span_id for task in tasks.values()}]
    stored = [span for span in below_tasks if span.name == "S3.PutObject"]
    assert stored and stored[0].attributes["aws.s3.bucket"] == "work"
    (callback,) = [span for span in spans if span.name == "deliver callback"]
    assert collector.path(callback)[-3:] == [flow.name, "notify", "deliver callback"]
    assert callback.service == "panelworks-supervisor"
    assert {"panelworks-gateway", "panelworks-run", "panelworks-supervisor"} == {
        span.service for span in spans
    }
    result = answer.json()["result"]
    for name in ("content_key", "route", "model"):
        assert flow.attributes[f"panelworks.{name}"] == result[name]
    assert flow.attributes["panelworks.pixels"] == 200 * 260
    assert not any(MARK.encode() in body for body in collector.bodies)
    until(lambda: collector.metrics.get("panelworks.pages", 0) >= 1)


def test_an_emitted_event_is_one_trace(on_postgres: Stack, collector: Collector) -> None:
    source = on_postgres.put("incoming/panel.png", page(4))
    job_id = on_postgres.emit_by_command(source, "--tool", "sora", "--panel-id", "p7")
    on_postgres.end(job_id)
    flow = flow_span(collector, job_id)
    wait_for(collector, flow.trace_id, "emit comic.panel.generated")
    assert collector.path(flow) == ["emit comic.panel.generated", flow.name]
    below = [span for span in collector.trace(flow.trace_id) if span.parent_id == flow.span_id]
    assert {"ingest", "assess", "publish"} <= {span.name for span in below}


def test_a_hostile_traceparent_is_ignored(on_postgres: Stack, collector: Collector) -> None:
    hostile = f"00-{TRACE}-{PARENT}-01-{'x' * 300}"
    answer = httpx.post(
        f"{on_postgres.gateway}/api/generation/events",
        json={"source": on_postgres.put("incoming/other.png", page(5)), "tool": "sora"},
        headers={"traceparent": hostile},
        timeout=60,
    )
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job_id"]
    on_postgres.end(job_id)
    flow = flow_span(collector, job_id)
    assert flow.trace_id != TRACE
    wait_for(collector, flow.trace_id, "POST /api/generation/events")
    assert collector.path(flow)[0] == "POST /api/generation/events"


def test_log_lines_are_json_with_the_ids_of_the_page(on_postgres: Stack, collector: Collector) -> None:
    answer = on_postgres.post(page(6), wait="150")
    job_id = answer.json()["job_id"]
    trace_id = flow_span(collector, job_id).trace_id
    logs = on_postgres.folder / "cache" / "logs"
    lines = {
        part: [
            json.loads(line) for line in (logs / f"{part}.log").read_text().splitlines() if line[:1] == "{"
        ]
        for part in ("gateway", "worker", "supervisor")
    }
    assert all(
        {"time", "level", "logger", "message"} <= line.keys() for part in lines.values() for line in part
    )
    assert lines["supervisor"]
    for part in ("gateway", "worker"):
        ours = [line for line in lines[part] if line.get("job_id") == job_id]
        assert ours, part
        assert {line.get("trace_id", trace_id) for line in ours} == {trace_id}
    assert all(line[:1] == "{" for line in (logs / "gateway.log").read_text().splitlines())
