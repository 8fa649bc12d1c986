"""Progress artifacts never fail the page and never hide a task's own timeout."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from orchestration import artifacts

PAGE: Any = SimpleNamespace(stem="page")


def test_an_unavailable_server_does_not_fail_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(artifacts, "create_progress_artifact", unavailable)
    artifacts.tile_progress(PAGE)(1.0)
    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda *_, **__: uuid4())
    monkeypatch.setattr(artifacts, "update_progress_artifact", unavailable)
    artifacts.tile_progress(PAGE)(1.0)


def test_a_timeout_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda *_, **__: uuid4())
    monkeypatch.setattr(artifacts, "update_progress_artifact", late)
    with pytest.raises(TimeoutError):
        artifacts.tile_progress(PAGE)(1.0)
