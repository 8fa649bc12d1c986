"""A stand-in of RunPod on loopback whose pods are processes."""

from collections.abc import Iterator

import pytest

from tests.deployments.runpod.standin import StandIn
from tests.deployments.server import interpreter


@pytest.fixture
def runpod() -> Iterator[StandIn]:
    """An account without pods."""
    with StandIn(interpreter()) as account:
        yield account
