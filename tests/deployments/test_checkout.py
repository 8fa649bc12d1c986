"""The targets of the deployments."""

from typing import get_args

import pytest
import yaml

from deployments.checkout import PREFECT_FILE, Target, deployments_of, pool_of
from deployments.names import POOL, QUEUES

TARGETS: tuple[Target, ...] = get_args(Target)


def test_each_target_has_a_pool_of_its_own() -> None:
    pools = [pool_of(target) for target in TARGETS]
    assert pools[0] == POOL and len(set(pools)) == len(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_changes_pool_and_variables_and_nothing_else(target: Target) -> None:
    ours = yaml.safe_load(PREFECT_FILE.read_text())["deployments"]
    theirs = deployments_of(target)
    for one, other in zip(ours, theirs, strict=True):
        assert other["work_pool"]["name"] == pool_of(target)
        assert other["work_pool"]["work_queue_name"] == one["work_pool"]["work_queue_name"] in QUEUES
        assert {**one, "work_pool": None} == {**other, "work_pool": None}


def test_this_machines_deployments_are_the_default() -> None:
    for deployment in yaml.safe_load(PREFECT_FILE.read_text())["deployments"]:
        assert deployment["work_pool"]["name"] == POOL
