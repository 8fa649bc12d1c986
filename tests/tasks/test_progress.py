"""Progress costs the display, never the page, and never hides a task's own timeout."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tasks import progress

PAGE: Any = SimpleNamespace(stem="page")


def test_a_server_that_is_away_costs_only_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(progress, "create_progress_artifact", away)
    progress.tile_progress(PAGE)(1.0)
    monkeypatch.setattr(progress, "create_progress_artifact", lambda *_, **__: uuid4())
    monkeypatch.setattr(progress, "update_progress_artifact", away)
    progress.tile_progress(PAGE)(1.0)


def test_a_timeout_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(progress, "create_progress_artifact", lambda *_, **__: uuid4())
    monkeypatch.setattr(progress, "update_progress_artifact", late)
    with pytest.raises(TimeoutError):
        progress.tile_progress(PAGE)(1.0)
