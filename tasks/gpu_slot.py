"""The slot that a flow holds while a network runs: as many at once as the device bears."""

from collections.abc import Iterator
from contextlib import contextmanager

from panelworks.settings import get_settings


@contextmanager
def gpu_slot() -> Iterator[None]:
    """Hold a slot of PANELWORKS_GPU_LIMIT for a block; without the setting nothing is limited.

    The sync form renews its lease from a thread of its own, also while a network keeps the event loop.
    A lease that cannot be renewed does not end the page: one page too many at once is only slower.
    """
    name = get_settings().gpu_limit
    if name is None:
        yield
        return
    from prefect.concurrency.sync import concurrency

    with concurrency(name, occupy=1, lease_duration=60, strict=True, raise_on_lease_renewal_failure=False):
        yield
