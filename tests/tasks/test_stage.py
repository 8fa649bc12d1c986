"""What the tasks promise before any of them runs."""

import importlib

import pytest
from prefect.cache_policies import NO_CACHE

from tasks.stage import RETRY_DELAYS, is_transient

CACHED = {"assess", "enhance", "validate", "make_variants"}
ALL = CACHED | {"ingest", "publish", "record"}


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_stage_is_retried_and_timed(name: str) -> None:
    stage = getattr(importlib.import_module(f"tasks.{name}"), name)
    assert stage.name == name.replace("_", "-")
    assert stage.retries == len(RETRY_DELAYS)
    assert stage.retry_condition_fn is is_transient
    assert stage.retry_jitter_factor > 0
    assert stage.timeout_seconds > 0
    assert not stage.tags, "each run of a tagged task asks the server for its limits"
    assert (stage.cache_policy != NO_CACHE) == (name in CACHED)
