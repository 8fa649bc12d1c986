"""An interrupted machine returns its page to the queue, and another machine finishes it, once."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from prefect.client.schemas.objects import StateType

from deployments.names import PoolKind
from deployments.pools import template
from tests.deployments import server
from tests.deployments.server import Worker, read, wait_for_end
from tests.deployments.spot.pages import SLOW, Page, order
from tests.deployments.spot.pods import Pod, alive
from tests.deployments.spot.work import deaf_work
from tests.servers import until

HANDED_BACK = ["Scheduled", "Pending", "Running", "AwaitingRetry"]
FINISHED = [*HANDED_BACK, "Pending", "Running", "Completed"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Path:
    """The folder of the test, with a running server."""
    return tmp_path_factory.mktemp("spot")


@contextmanager
def taken_away(kind: PoolKind, folder: Path) -> Iterator[Page]:
    """Wait until a page is scheduled again after its pod was interrupted; the pod may still be ending."""
    server.make_pool(kind, template(kind), kind)
    page = order(kind, folder, 800, 1100)
    with Pod(kind, page, "first", **SLOW) as pod:
        until(page.is_in_work)
        family = pod.family()
        pod.preempt()
        until(lambda: read(page.run).state_name == "AwaitingRetry", 60)
        yield page
        assert pod.ended() == 0
        assert not any(map(alive, family))


def test_a_page_of_a_kubernetes_pod_is_finished_in_another(folder: Path) -> None:
    with taken_away("kubernetes", folder) as page, Pod("kubernetes", page, "second") as second:
        assert wait_for_end(page.run)[0] == StateType.COMPLETED
        assert second.ended() == 0
    assert page.states() == FINISHED
    page.is_delivered_once()


def test_the_page_of_an_interrupted_ecs_task_is_scheduled_again(folder: Path) -> None:
    """Here, `timeout` receives the signal and passes it to the run."""
    with taken_away("ecs", folder) as page:
        pass
    assert page.states() == HANDED_BACK


def test_a_stopped_warm_worker_hands_back_unfinished_pages(folder: Path) -> None:
    pool, note = "spot-warm", folder / "note"
    server.make_pool(pool, template("process"), "process")
    deaf, page = server.start(server.deploy(deaf_work, pool), note=str(note)), order(pool, folder, 800, 1100)
    machine = {"PANELWORKS_CACHE_DIR": str(page.volume / "cache"), "DEVICE": "cpu"}
    command = ("panelworks", "worker", "--pool", pool, "--limit", "2", "--drain-seconds", "1")
    for name in ("first", "second"):
        (page.place / name).mkdir()
    first = Worker(page.place / "first", *command, **machine, **SLOW).in_background()
    second = Worker(page.place / "second", *command, **machine)
    with ExitStack() as running:
        first.start()
        running.callback(first.stop)
        until(lambda: note.exists() and page.is_in_work())
        family = {one.pid: one for one in psutil.Process(first.pid).children()}
        of_deaf = family.pop(int(note.read_text()))
        (of_page,) = family.values()
        stopping = threading.Thread(target=first.stop)
        stopping.start()  # at once: nothing may end by itself
        second.start()
        running.callback(second.stop)
        until(lambda: read(page.run).state_name != "Running", 60)
        assert not alive(of_page), "it is dead before another worker may take its run"
        until(lambda: read(deaf).state_name != "Running", 60)
        assert not alive(of_deaf)
        assert [wait_for_end(run)[0] for run in (page.run, deaf)] == [StateType.COMPLETED] * 2
        stopping.join()
        assert first.status == 0, "it left by itself"
        assert "stopped!" in first.log.read_text()
    assert page.states() == FINISHED
    assert len(set(note.read_text().split())) == 2, "it began again in another process"
    page.is_delivered_once()
