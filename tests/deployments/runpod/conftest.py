"""A RunPod on loopback whose pods are processes."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployments.runpod.standin import StandIn

ROOT = Path(__file__).parents[3]


@pytest.fixture
def runpod() -> Iterator[StandIn]:
    """An account without pods."""
    with StandIn(pod_environment()) as account:
        yield account


def pod_environment() -> dict[str, str]:
    """What the image of a pod brings: this interpreter as `python`, and the checkout."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "HOME": os.environ.get("HOME", "/root"),
    }
