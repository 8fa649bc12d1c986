"""compose.yaml in containers: pages, books and schedules, a killed worker, a restarted server, a graceful stop.

The tests share one stack and run in this order. Postgres, Redis and the object store are stand-ins from Debian and PyPI.
"""

import json

import pytest

from tests.containers.stack import BUCKET, OURS, Stack, page_bytes
from tests.servers import until

KILLED = 137
FINISHED = "comic.panel.enhanced"


def test_a_schedule_is_set(stack: Stack) -> None:
    """It fires while the other tests run; `test_the_schedule_fired` waits for it."""
    stack.upload_book("archive/series/one.cbz", range(100, 102))
    stack.compose.run_in(
        "gateway", "panelworks", "schedule", "backfill", "--archive", f"s3://{BUCKET}/archive",
        "--out", f"s3://{BUCKET}/enhanced", "--cron", "* * * * *", "--name", "each-minute",
    )  # fmt: skip


def test_a_page_is_delivered_by_http(stack: Stack) -> None:
    files = {"file": ("page.png", page_bytes(1), "image/png")}
    job = stack.request("POST", "/api/enhancement/process?wait=60", files=files)
    assert job["status"] == "done"
    for link in job["links"]:
        stored = stack.s3.head_object(Bucket=BUCKET, Key=link["uri"].removeprefix(f"s3://{BUCKET}/"))
        assert stored["ContentLength"] == link["bytes"]


def test_a_page_is_delivered_by_event(stack: Stack) -> None:
    stack.s3.put_object(Bucket=BUCKET, Key="in/panel.png", Body=page_bytes(2))
    printed = stack.compose.run_in("gateway", "panelworks", "emit", f"s3://{BUCKET}/in/panel.png", "--json")
    job = json.loads(printed)["job_id"]
    until(lambda: stack.count_events(FINISHED, job) > 0)
    assert len(stack.keys("upscaled/panel-")) == 1
    assert stack.count_events(FINISHED, job) == 1


def test_a_book_survives_a_killed_worker_and_a_restarted_server(stack: Stack) -> None:
    run = stack.start_book("killed", range(10, 18))
    until(lambda: stack.count_finished_tasks(run) > 0)
    stack.kill("worker-cpu")
    stack.compose("restart", "server")
    stack.wait_until_healthy()
    until(lambda: stack.state_of(run) == "Completed")
    assert stack.pages_of("out/killed.cbz") == 8
    assert stack.count_book_events("out/killed.cbz") == 1


def test_the_schedule_fired(stack: Stack) -> None:
    until(lambda: stack.pages_of("enhanced/series/one.cbz") == 2)
    stack.compose.run_in("gateway", "panelworks", "schedule", "backfill", "--name", "each-minute", "--remove")
    assert stack.count_book_events("enhanced/series/one.cbz") == 1


def test_health_reports_every_component(stack: Stack) -> None:
    health = stack.request("GET", "/api/health")
    assert health["status"] == "healthy", health


@pytest.mark.parametrize("service", OURS)
def test_a_service_has_no_rights(stack: Stack, service: str) -> None:
    status = dict(
        line.split(":", 1) for line in stack.compose.run_in(service, "cat", "/proc/1/status").splitlines()
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    assert stack.compose.inspect(service, "{{.HostConfig.ReadonlyRootfs}}") == "true"


@pytest.mark.parametrize("service", OURS)
def test_no_log_contains_a_secret_or_an_unexpected_error(stack: Stack, service: str) -> None:
    log = stack.compose.logs(service)
    for secret in stack.secrets:
        assert secret not in log
    for words in ("Exception in ASGI application", "Read-only file system", "Permission denied"):
        assert words not in log, log[-3000:]


def test_the_stack_stops_gracefully_and_resumes_its_book(stack: Stack) -> None:
    run = stack.start_book("stopped", range(20, 28))
    until(lambda: stack.count_finished_tasks(run) > 0)
    seconds = stack.compose.stop(*OURS)  # the stand-in for the object store would lose its objects
    print(f"our services stopped in {seconds:.1f} s")
    codes = {name: int(stack.compose.inspect(name, "{{.State.ExitCode}}")) for name in OURS}
    assert KILLED not in codes.values(), codes
    stack.start()
    until(lambda: stack.state_of(run) == "Completed")
    assert stack.pages_of("out/stopped.cbz") == 8
    assert stack.count_book_events("out/stopped.cbz") == 1
