"""Options of the tasks, and retries without a task."""

import asyncio
import importlib
from typing import Any, cast

import pytest
from prefect.cache_policies import NO_CACHE

from orchestration import stage_tasks
from orchestration.stage_tasks import RETRY_DELAYS_SECONDS, is_transient, retry_transient
from panelworks.errors import Transient

CACHED = {"assess", "enhance", "validate", "make_variants"}
ALL = CACHED | {"ingest", "publish"}


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_stage_is_retried_and_timed(name: str) -> None:
    stage = getattr(importlib.import_module(f"tasks.{name}"), name)
    assert stage.name == name.replace("_", "-")
    assert stage.retries == len(RETRY_DELAYS_SECONDS)
    assert stage.retry_condition_fn is is_transient
    assert stage.retry_jitter_factor > 0
    assert stage.timeout_seconds > 0
    assert not stage.tags, "each run of a tagged task asks the server for its limits"
    assert (stage.cache_policy != NO_CACHE) == (name in CACHED)


def test_a_result_of_another_engine_is_not_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = stage_tasks._cache_by_content("enhance", lambda arguments: arguments["page"])
    keys = set()
    for engine in ("4", "5", "5"):
        monkeypatch.setattr(stage_tasks, "ENGINE_VERSION", engine)
        keys.add(policy.compute_key(cast("Any", None), {"page": "the same"}, {}))
    assert len(keys) == 2


@pytest.mark.parametrize(("failures", "succeeds"), [(0, True), (2, True), (3, False)])
def test_without_a_task_a_transient_failure_is_retried(
    failures: int, succeeds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_tasks, "RETRY_DELAYS_SECONDS", [0.0, 0.0])
    errors = [Transient("s3", "The store is unavailable.")] * failures

    def call() -> str:
        if errors:
            raise errors.pop()
        return "done"

    if succeeds:
        assert asyncio.run(retry_transient(call)) == "done"
    else:
        with pytest.raises(Transient):
            asyncio.run(retry_transient(call))
    assert errors == []
