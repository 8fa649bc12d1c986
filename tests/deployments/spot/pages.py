"""A page that takes long on the first machine, and its states."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowRunFilter,
    FlowRunFilterId,
)

from flows.enhance_page import enhance_page
from panelworks.accounting.ledger import Ledger
from panelworks.storage.local import LocalFolder
from tests.deployments import server
from tests.deployments.server import call_prefect
from tests.pages import write_page
from tests.servers import until

SLOW: Final = {"PANELWORKS_RUNTIME": "torch", "PANELWORKS_THREADS": "1", "PANELWORKS_TILE": "32"}
"""Environment of a machine that is ten times slower."""


@dataclass(frozen=True)
class Page:
    """A submitted page."""

    run: UUID
    place: Path

    @property
    def volume(self) -> Path:
        """The volume that the machines of its pool share."""
        return self.place / "models"

    def is_in_work(self) -> bool:
        """Whether some of its tiles are computed, and not all."""
        chosen = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[self.run]), type=ArtifactFilterType(any_=["progress"])
        )
        shown = call_prefect(lambda client: client.read_artifacts(artifact_filter=chosen))
        return any(0 < float(str(one.data)) < 100 for one in shown)

    def states(self) -> list[str]:
        """The names of its states, the oldest first, without those that depend on the load of the machine."""
        states = call_prefect(lambda client: client.read_flow_run_states(self.run))
        names = [str(one.name) for one in sorted(states, key=lambda one: one.timestamp)]
        return [name for name in names if name not in ("Late", "Submitting")]

    def endings(self, task: str) -> list[str]:
        """The states in which the runs of a task ended."""
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[self.run]))
        runs = call_prefect(lambda client: client.read_task_runs(flow_run_filter=chosen))
        return sorted(str(one.state_name) for one in runs if one.name.partition(" ")[0] == task)

    def is_delivered_once(self) -> None:
        """One row in the ledger, one master, one event; finished stages are not repeated."""
        rows = Ledger(LocalFolder(self.volume / "cache" / "ledger")).read()
        assert rows[rows["job_id"] == str(self.run)]["status"].tolist() == ["success"]
        assert len(list((self.place / "out" / "upscaled").iterdir())) == 1
        until(lambda: self.endings("assess") == ["Cached", "Completed"], 60)
        until(lambda: bool(self._events()), 60)
        assert len(self._events()) == 1

    def _events(self) -> list[Any]:
        wanted = {"resource": {"id": [f"comic.job.{self.run}"]}, "event": {"name": ["comic.panel.enhanced"]}}
        body = {"filter": wanted, "limit": 50}
        answer = call_prefect(lambda client: client.request("POST", "/events/filter", json=body))
        found: list[Any] = answer.json()["events"]
        return found


def order(pool: str, folder: Path, width: int, height: int) -> Page:
    """Submit a page to the pool."""
    place = folder / pool
    place.mkdir()
    source = write_page(place / "page.png", width, height, seed=2)
    deployment = server.deploy(enhance_page, pool)
    return Page(server.start(deployment, source=str(source), out=str(place / "out")), place)
