"""Progress artifacts: none for short work; they never fail the page and never hide a task's own timeout."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from orchestration import artifacts

PAGE: Any = SimpleNamespace(stem="page")


class Artifacts:
    """Stands for Prefect's functions; notes the shares that were created and updated."""

    def __init__(self, *errors: Exception) -> None:
        self.sent: list[float] = []
        self._errors: Iterator[Exception] = iter(errors)

    def create(self, progress: float, **_: object) -> object:
        self._send(progress)
        return uuid4()

    def update(self, artifact: object, progress: float, **_: object) -> None:
        self._send(progress)

    def _send(self, progress: float) -> None:
        self.sent.append(progress)
        for error in self._errors:
            raise error


def shown(monkeypatch: pytest.MonkeyPatch, delay_seconds: float, *errors: Exception) -> Artifacts:
    here = Artifacts(*errors)
    monkeypatch.setattr(artifacts, "create_progress_artifact", here.create)
    monkeypatch.setattr(artifacts, "update_progress_artifact", here.update)
    monkeypatch.setattr(artifacts, "PROGRESS_DELAY_SECONDS", delay_seconds)
    return here


def test_short_work_shows_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    here = shown(monkeypatch, 60)
    progress = artifacts.tile_progress(PAGE)
    progress(0.5)
    progress(1.0)
    assert here.sent == []


def test_long_work_shows_its_begin_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    here = shown(monkeypatch, 0)
    progress = artifacts.tile_progress(PAGE)
    for share in (0.25, 0.5, 0.75, 1.0):
        progress(share)
    assert here.sent == [25.0, 100.0], "others follow at intervals"


def test_an_unavailable_server_does_not_fail_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    here = shown(monkeypatch, 0, httpx.ConnectError("refused"))
    progress = artifacts.tile_progress(PAGE)
    progress(0.5)
    progress(1.0)
    assert here.sent == [50.0, 100.0], "it is created later"


def test_a_timeout_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    shown(monkeypatch, 0, TimeoutError())
    with pytest.raises(TimeoutError):
        artifacts.tile_progress(PAGE)(1.0)
