"""The stack on Postgres, with delivery to a local folder and without Redis."""

import asyncio
import os
import sys
from pathlib import Path

import asyncpg
import httpx
import psutil

from tests.live.postgres import Postgres
from tests.live.stack import DATABASE, Stack
from tests.live.test_live import page
from tests.servers import AUTH, Redis, free_port, request_api, until

BACKLOG_RUNS = 100


def test_the_stack_runs_on_postgres(on_postgres: Stack) -> None:
    folder = on_postgres.folder
    (folder / "page.png").write_bytes(page(95))
    run_id = on_postgres.deploy_run("enhance-page/enhance-page", {"source": str(folder / "page.png")})
    assert on_postgres.end(run_id)["result"]["route"] == "upscaled"
    job = on_postgres.post(page(96), "posted.png", wait="120").json()
    assert job["status"] == "done"
    assert len(list((folder / "out" / "upscaled").iterdir())) == 2
    assert not (Path(on_postgres.environment["PREFECT_HOME"]) / "prefect.db").exists(), "SQLite is not used"


def test_a_manual_run_overtakes_the_backlog(on_postgres: Stack) -> None:
    queue = "/work_pools/panelworks/queues/backfill"
    on_postgres.ask("PATCH", queue, {"is_paused": True})
    source = on_postgres.folder / "backlog.png"
    source.write_bytes(page(37))
    parameters = {"source": str(source), "force": True, "options": {"model": "lanczos"}}
    backlog = on_postgres.deploy_runs("enhance-page/in-the-background", parameters, BACKLOG_RUNS)
    on_postgres.ask("PATCH", queue, {"is_paused": False})
    until(lambda: _count(on_postgres, backlog, "RUNNING") > 0)
    manual = on_postgres.post(page(38), "manual.png").json()["job_id"]
    assert on_postgres.end(manual)["status"] == "done"
    assert _count(on_postgres, backlog, "SCHEDULED") > 0.75 * BACKLOG_RUNS, (
        "the manual page did not wait for the backlog"
    )
    until(lambda: _queue_depth(on_postgres, "backfill") > 0.5 * BACKLOG_RUNS)
    on_postgres.ask("PATCH", queue, {"is_paused": True})


def test_a_server_of_two_processes_replaces_a_dead_one(database: Postgres, tmp_path: Path) -> None:
    """Its database is new: two processes that both create the tables would fail."""
    asyncio.run(_create_database(database, "shared"))
    redis, port = Redis(tmp_path), free_port()
    redis.start()
    url = f"http://127.0.0.1:{port}/api"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        DATABASE: database.url.replace("/postgres", "/shared"),
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
        "PREFECT_REDIS_MESSAGING_URL": redis.url,
        "PREFECT_SERVER_DOCKET_URL": redis.url,
        "PANELWORKS_SERVER_HOSTS": "prefect.example",
    }
    command = [sys.executable, "-m", "panelworks", "server", "--no-services", "--workers", "2"]
    with (tmp_path / "server.log").open("w") as log:
        server = psutil.Popen([*command, "--port", str(port)], env=environment, stdout=log, stderr=log)
    try:
        until(lambda: _has_answered(url) and len(_processes(server)) == 2)
        request_api("POST", "/variables/", {"name": "kept", "value": 1}, api=url, auth=AUTH)
        killed = _processes(server)[0]
        killed.kill()
        until(lambda: len(_processes(server)) == 2 and killed not in _processes(server))
        assert request_api("GET", "/variables/name/kept", api=url, auth=AUTH)["value"] == 1
        statuses = [
            httpx.get(
                f"{url}/version", headers={"Host": host}, auth=httpx.BasicAuth(*AUTH.split(":"))
            ).status_code
            for host in ("prefect.example", "attacker.example")
        ]
        assert statuses == [200, 421]
    finally:
        family = server.children(recursive=True)
        server.terminate()
        server.wait(60)
        redis.stop()
    until(lambda: not [one for one in family if one.is_running()], 30)
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_the_check_names_what_does_not_work(tmp_path: Path) -> None:
    stack = Stack(tmp_path, Redis(tmp_path), "http://127.0.0.1:9", "pages")
    stack.environment[DATABASE] = "postgresql+asyncpg://nobody@127.0.0.1:9/none"
    code, problems = stack.check()
    assert code == 1
    assert [problem.partition(":")[0].split()[0] for problem in problems] == ["database", "cache", "delivery"]


def _count(stack: Stack, runs: list[str], state: str) -> int:
    wanted = {"flow_runs": {"id": {"any_": runs}, "state": {"type": {"any_": [state]}}}}
    return int(stack.ask("POST", "/flow_runs/count", wanted))


async def _create_database(server: Postgres, name: str) -> None:
    connection = await asyncpg.connect(server.url.replace("+asyncpg", ""))
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()


def _has_answered(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def _processes(server: psutil.Popen) -> list[psutil.Process]:
    """The processes of a server that answer requests; another child keeps count of shared memory."""
    alive = [one for one in server.children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in alive if "spawn_main" in " ".join(one.cmdline())]


def _queue_depth(stack: Stack, queue: str) -> float:
    """Runs that wait in a queue; 0 while the gateway has not read them from a busy server."""
    lines = [line for line in stack.metrics().splitlines() if f'queue_depth{{queue="{queue}"}}' in line]
    return float(lines[0].split()[-1]) if lines else 0.0
