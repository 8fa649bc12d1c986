"""A studio's work on the real stack: events, enhanced panels, progress, and pages processed again."""

import io
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.live.stack import Message, Stack
from tests.networks import random_compact
from tests.pages import drawn, file_of
from tests.servers import until

STAGES = ["ingest", "recall", "wait", "assess", "enhance", "validate", "variants", "publish", "record"]
SHORT_SECONDS, LONG_SECONDS = 0.2, 0.6
"""A stage that is shorter reports no progress, a longer one does."""


def page(seed: int, width: int = 200, height: int = 260) -> bytes:
    return file_of(Image.fromarray(drawn(width, height, seed=seed).pixels))


def test_an_event_becomes_enhanced_variants(stack: Stack) -> None:
    source = stack.put("incoming/panel-7.png", page(7, 1400, 1520))
    job_id = stack.emit_by_command(source, "--tool", "sora", "--panel-id", "p7", "--preset", "comic-page")
    messages = list(stack.follow(job_id))
    progress = [message for message in messages if message["type"] == "progress"]
    stages = list(dict.fromkeys(message["stage"] for message in progress))
    assert stages == [stage for stage in STAGES if stage in stages], "in their order"
    assert [message["percent"] for message in progress] == sorted(message["percent"] for message in progress)
    tiles = [
        message
        for message in progress
        if message["stage"] == "enhance" and 0 < message["stage_percent"] < 100
    ]
    assert tiles, "progress is reported for each tile"
    assert messages[-1]["type"] == "end"
    result = messages[-1]["result"]
    (preview,) = (message for message in messages if message["type"] == "preview")
    first_tile = next(message for message in progress if message["stage"] == "enhance")
    assert preview["cursor"] < first_tile["cursor"], "the preview comes before the page is enhanced"
    assert (preview["placeholder"], preview["width"]) == (result["placeholder"], 1400)
    shown = httpx.get(f"{stack.gateway}/api/enhancement/{job_id}/preview")
    assert shown.content == stack.get(result["preview"]["uri"])
    assert len(shown.content) == preview["preview"]["bytes"] <= 4000
    seconds = result["seconds"]
    assert {stage for stage in STAGES if seconds.get(stage, 0) > LONG_SECONDS} <= set(stages)
    assert not {stage for stage in stages if seconds.get(stage, 1) < SHORT_SECONDS}
    assert result["route"] == "upscaled"
    assert result["quality"]["after"]["overall"] > 0.8
    for variant in (*result["variants"], {**result["master"], "name": "master"}):
        with Image.open(io.BytesIO(stack.get(variant["uri"]))) as picture:
            assert picture.size == (variant["width"], variant["height"])
            assert variant["name"] == "normal" or picture.width >= 2 * 1400
    middle = len(messages) // 2
    again = list(stack.follow(job_id, after=messages[middle]["cursor"]))
    assert again == messages[middle + 1 :], "a client that reconnects gets the messages after its cursor"
    status = httpx.get(f"{stack.gateway}/api/enhancement/status/{job_id}").json()
    assert (status["status"], status["percent"]) == ("done", 100)
    assert "/runs/flow-run/" in status["run_url"]
    by_http = httpx.get(stack.gateway + status["links"][0]["url"])
    assert by_http.content == stack.get(status["links"][0]["uri"])


def test_five_jobs_at_once_have_five_streams(stack: Stack) -> None:
    jobs = [stack.post(page(seed), f"five-{seed}.png").json()["job_id"] for seed in range(20, 25)]
    assert len(set(jobs)) == 5
    streams: dict[str, list[Message]] = {}
    threads = [
        threading.Thread(target=lambda job=job: streams.update({job: list(stack.follow(job))}))
        for job in jobs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in jobs:
        assert {message["job_id"] for message in streams[job]} == {job}
        assert streams[job][-1]["status"] == "done"


def test_a_cached_page_is_answered_at_once(stack: Stack) -> None:
    data = page(30)
    first = stack.post(data, wait="120").json()
    assert first["status"] == "done"
    assert not first["result"]["cached"]
    answer = stack.post(data)
    assert answer.status_code == 200
    again = answer.json()
    assert again["result"]["cached"]
    assert again["job_id"] == first["job_id"]
    assert again["links"] == first["links"]


def test_the_same_page_posted_ten_times_is_one_job(stack: Stack) -> None:
    data, jobs = page(31), []
    threads = [
        threading.Thread(target=lambda: jobs.append(stack.post(data).json()["job_id"])) for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(jobs)) == 1
    assert stack.end(jobs[0])["status"] == "done"


def test_a_page_is_processed_again_with_other_settings(stack: Stack) -> None:
    first = stack.post(page(32), wait="120").json()
    answer = httpx.post(
        f"{stack.gateway}/api/enhancement/{first['job_id']}/re-enhance?wait=120",
        json={"options": {"scale": 3, "preset": "sora", "model": "lanczos"}},
        timeout=200,
    )
    again = answer.json()
    assert again["status"] == "done", again
    assert again["result"]["scale"] == 3
    assert again["result"]["content_key"] != first["result"]["content_key"]
    run_id = stack.deploy_run("reenhance/reenhance", {"of": first["job_id"], "options": {"scale": 1.5}})
    assert stack.ended(run_id)["state_type"] == "COMPLETED"
    by_flow = httpx.get(f"{stack.gateway}/api/enhancement/status/{run_id}").json()
    assert by_flow["result"]["scale"] == 1.5


def test_a_page_whose_network_fails_takes_the_fallback(stack: Stack, tmp_path: Path) -> None:
    garbage = random_compact(tmp_path / "garbage.safetensors", strength=3.0, seed=5)
    source = tmp_path / "fallen.png"
    source.write_bytes(page(33))
    run_id = stack.deploy_run(
        "enhance-page/enhance-page", {"source": str(source), "options": {"model": str(garbage)}}
    )
    messages = list(stack.follow(run_id))
    assert messages[-1]["result"]["route"] == "upscaled"
    assert messages[-1]["result"]["fallback"]["attempts"][-1]["passed"]


def test_the_same_event_twice_does_the_work_once(stack: Stack) -> None:
    source = stack.put("incoming/twice.png", page(34))
    for _ in range(2):
        stack.emit(source, job_id="gen-34")
    until(
        lambda: (
            len(_runs_of(stack, "gen-34")) == 2
            and all(r["state_type"] == "COMPLETED" for r in _runs_of(stack, "gen-34"))
        )
    )
    rows = stack.rows()
    assert rows[rows["job_id"] == "gen-34"]["cached"].tolist() == [False]
    assert len(stack.keys("upscaled/twice-")) == 1
    names = sorted(str(run["state_name"]) for run in _runs_of(stack, "gen-34"))
    assert names == ["Completed", "Duplicate"]
    before = stack.end("gen-34")
    stack.emit(source, job_id="gen-34", priority="interactive")
    until(lambda: [run["state_name"] for run in _runs_of(stack, "gen-34")].count("Duplicate") == 2)
    assert stack.end("gen-34") == before


def test_a_job_of_an_event_can_be_cancelled_while_it_waits(stack: Stack) -> None:
    queue = next(
        one
        for one in stack.ask("POST", "/work_pools/panelworks/queues/filter", {})
        if one["name"] == "events"
    )
    place = f"/work_pools/panelworks/queues/{queue['name']}"
    stack.ask("PATCH", place, {"is_paused": True})
    try:
        source = stack.put("incoming/waits.png", page(38))
        by_http, by_hand = (stack.emit(source, job_id=f"waits-{n}") for n in range(2))
        until(lambda: all(_runs_of(stack, job_id) for job_id in (by_http, by_hand)))
        answer = httpx.delete(f"{stack.gateway}/api/enhancement/{by_http}", timeout=30)
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
        run = _runs_of(stack, by_hand)[0]["id"]
        cancelled = {"state": {"type": "CANCELLED", "name": "Cancelled"}, "force": True}
        stack.ask("POST", f"/flow_runs/{run}/set_state", cancelled)
        assert [stack.end(job_id)["status"] for job_id in (by_http, by_hand)] == ["cancelled"] * 2
    finally:
        stack.ask("PATCH", place, {"is_paused": False})


def test_a_malformed_event_is_reported(stack: Stack) -> None:
    body = [{"id": "8b2f3c64-0000-4000-8000-000000000001", "occurred": _now(), "event": "comic.panel.generated",
             "resource": {"prefect.resource.id": "comic.panel.bad"},
             "payload": {"job_id": "bad-event", "source": "data:,x", "options": "as large as you can"}}]  # fmt: skip
    stack.ask("POST", "/events", body)
    until(lambda: 'code="refused_event"' in stack.metrics())
    rows = stack.rows()
    assert rows[rows["job_id"] == "bad-event"]["error"].tolist() == ["refused_event"]
    assert (
        httpx.get(f"{stack.gateway}/api/enhancement/status/bad-event").json()["error"]["code"]
        == "refused_event"
    )


def test_an_event_cannot_name_local_files(stack: Stack) -> None:
    job_id = stack.emit("/etc/passwd")
    end = stack.end(job_id)
    assert (end["status"], end["result"]["error"]["code"]) == ("failed", "forbidden_path")
    answer = httpx.post(f"{stack.gateway}/api/generation/events", json={"source": "file:///etc/passwd"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden_path")


def test_a_cancelled_page_leaves_no_half_object(stack: Stack) -> None:
    job_id = stack.post(page(35, 1900, 1900), "cancelled.png").json()["job_id"]
    status = None
    for message in stack.follow(job_id):
        if message.get("stage") == "enhance" and message["stage_percent"] > 0 and status is None:
            status = httpx.delete(f"{stack.gateway}/api/enhancement/{job_id}", timeout=30).status_code
    assert status == 202
    assert message["status"] == "cancelled"
    until(lambda: stack.run(stack.run_id(job_id))["state_type"] == "CANCELLED")
    assert stack.keys("/cancelled-") == []
    listed = httpx.get(f"{stack.gateway}/api/enhancement?status=cancelled").json()["jobs"]
    assert job_id in {job["job_id"] for job in listed}


def test_a_page_in_is_a_page_out(stack: Stack) -> None:
    answer = httpx.post(f"{stack.gateway}/api/pages", files={"image": ("p.png", page(36))}, timeout=120)
    assert (answer.status_code, answer.headers["x-panelworks-route"]) == (200, "upscaled")
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (400, 520)


def test_an_operator_defines_a_profile_and_uses_it(stack: Stack, tmp_path: Path) -> None:
    types = {t["slug"]: t for t in stack.ask("POST", "/block_types/filter", {})}
    kind = types["enhancement-profile"]["id"]
    wanted = {"block_schemas": {"block_type_id": {"any_": [kind]}}}
    schema = stack.ask("POST", "/block_schemas/filter", wanted)[0]["id"]
    document = {
        "name": "covers",
        "data": {"options": {"scale": 3, "model": "lanczos"}},
        "block_schema_id": schema,
        "block_type_id": kind,
    }
    stack.ask("POST", "/block_documents/", document)
    (tmp_path / "cover.png").write_bytes(page(39))
    run_id = stack.deploy_run(
        "enhance-page/enhance-page", {"source": str(tmp_path / "cover.png"), "profile": "covers"}
    )
    assert stack.end(run_id)["result"]["scale"] == 3


@pytest.mark.parametrize("what", ["started twice", "provisioned twice"])
def test_what_up_registers_is_there_once(stack: Stack, what: str) -> None:
    if what == "provisioned twice":
        environment = {**stack.environment, "PREFECT_API_URL": stack.api}
        subprocess.run(
            [sys.executable, "-m", "panelworks", "provision"], env=environment, check=True, timeout=120
        )
    automations = stack.ask("POST", "/automations/filter", {})
    names = [one["name"] for one in automations]
    assert len(names) == len(set(names)) == 6
    queues = stack.ask("POST", "/work_pools/panelworks/queues/filter", {})
    order = sorted((one["priority"], one["name"]) for one in queues if one["name"] != "default")
    assert [name for _, name in order] == ["interactive", "events", "backfill"]
    assert not next(one for one in automations if one["name"] == "panelworks-notify-failures")["enabled"]


def _runs_of(stack: Stack, job_id: str) -> list[dict[str, object]]:
    found = stack.ask("POST", "/flow_runs/filter", {"limit": 50, "sort": "START_TIME_DESC"})
    return [run for run in found if run["parameters"].get("job_id") == job_id]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
