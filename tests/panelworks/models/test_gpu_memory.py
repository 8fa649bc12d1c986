"""A run that does not fit waits for memory of other processes, but only if they hold any."""

import pytest

from panelworks.errors import Invalid, ResourceExhausted
from panelworks.models.gpu import GpuMemory, run_with_free_memory

GIB = 2**30


class Card:
    """A GPU of 16 GiB. Other processes release their memory after some time."""

    def __init__(self, others: int, own: int = 0, until: float = float("inf")) -> None:
        self.others, self.own, self.until = others * GIB, own * GIB, until
        self.clock = 0.0

    def memory(self) -> GpuMemory:
        others = self.others if self.clock < self.until else 0
        return GpuMemory(total=16 * GIB, free=16 * GIB - others - self.own, own=self.own)

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def free_own(self) -> None:
        self.own = 0

    def run(self) -> str:
        """Needs 10 GiB."""
        if self.memory().free < 10 * GIB:
            raise ResourceExhausted("out_of_memory", "Too little.")
        return "done"

    def try_for(self, patience: float) -> str:
        return run_with_free_memory(
            self.run, patience, free_unused=self.free_own, read_memory=self.memory, sleep=self.sleep
        )


def test_a_run_that_fits_does_not_wait() -> None:
    card = Card(others=2)
    assert card.try_for(60) == "done"
    assert card.clock == 0


def test_own_unused_networks_are_freed_first() -> None:
    card = Card(others=2, own=8)
    assert card.try_for(60) == "done"
    assert (card.clock, card.own) == (0, 0)


def test_it_waits_for_memory_of_other_processes() -> None:
    card = Card(others=12, until=7)
    assert card.try_for(60) == "done"
    assert card.clock == 7


@pytest.mark.parametrize("patience", [0.0, 5.0])
def test_waiting_ends_after_the_limit(patience: float) -> None:
    card = Card(others=12)
    with pytest.raises(ResourceExhausted):
        card.try_for(patience)
    assert card.clock == patience


def test_it_does_not_wait_if_no_other_process_holds_memory() -> None:
    card = Card(others=0)

    def too_large() -> str:
        raise ResourceExhausted("out_of_memory", "Too little.")

    with pytest.raises(ResourceExhausted):
        run_with_free_memory(
            too_large, 60, free_unused=card.free_own, read_memory=card.memory, sleep=card.sleep
        )
    assert card.clock == 0


@pytest.mark.parametrize(
    "error", [ResourceExhausted("too_large", "Too large."), Invalid("bad_tile", "Dead.")]
)
def test_it_does_not_wait_after_other_errors(error: Exception) -> None:
    runs: list[int] = []

    def fail() -> str:
        runs.append(1)
        raise error

    with pytest.raises(type(error)):
        run_with_free_memory(fail, 60, free_unused=lambda: None, read_memory=Card(others=12).memory)
    assert len(runs) == 1


def test_it_does_not_wait_on_a_cpu() -> None:
    runs: list[int] = []

    def fail() -> str:
        runs.append(1)
        raise ResourceExhausted("out_of_memory", "Too little.")

    with pytest.raises(ResourceExhausted):
        run_with_free_memory(fail, 60, free_unused=lambda: None, read_memory=lambda: None)
    assert len(runs) == 1
