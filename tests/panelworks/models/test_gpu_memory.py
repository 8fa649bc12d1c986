"""A run that does not fit waits for others, and for nobody in vain."""

import pytest

from panelworks.errors import Invalid, ResourceExhausted
from panelworks.models.gpu import CardMemory, with_room

GIB = 2**30


class Card:
    """A card of 16 GiB, of which others give back what they hold after a while."""

    def __init__(self, others: int, own: int = 0, until: float = float("inf")) -> None:
        self.others, self.own, self.until = others * GIB, own * GIB, until
        self.clock = 0.0

    def memory(self) -> CardMemory:
        others = self.others if self.clock < self.until else 0
        return CardMemory(total=16 * GIB, free=16 * GIB - others - self.own, own=self.own)

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
        return with_room(self.run, patience, make_room=self.free_own, memory=self.memory, sleep=self.sleep)


def test_what_fits_runs_at_once() -> None:
    card = Card(others=2)
    assert card.try_for(60) == "done"
    assert card.clock == 0


def test_our_own_idle_networks_go_first() -> None:
    card = Card(others=2, own=8)
    assert card.try_for(60) == "done"
    assert (card.clock, card.own) == (0, 0)


def test_what_others_hold_is_waited_for() -> None:
    card = Card(others=12, until=7)
    assert card.try_for(60) == "done"
    assert card.clock == 7


@pytest.mark.parametrize("patience", [0.0, 5.0])
def test_patience_ends(patience: float) -> None:
    card = Card(others=12)
    with pytest.raises(ResourceExhausted):
        card.try_for(patience)
    assert card.clock == patience


def test_nobody_is_waited_for_where_nobody_holds_anything() -> None:
    card = Card(others=0)

    def too_large() -> str:
        raise ResourceExhausted("out_of_memory", "Too little.")

    with pytest.raises(ResourceExhausted):
        with_room(too_large, 60, make_room=card.free_own, memory=card.memory, sleep=card.sleep)
    assert card.clock == 0


@pytest.mark.parametrize(
    "error", [ResourceExhausted("too_large", "Too large."), Invalid("bad_tile", "Dead.")]
)
def test_other_failures_are_not_waited_out(error: Exception) -> None:
    runs: list[int] = []

    def fail() -> str:
        runs.append(1)
        raise error

    with pytest.raises(type(error)):
        with_room(fail, 60, make_room=lambda: None, memory=Card(others=12).memory)
    assert len(runs) == 1


def test_on_a_cpu_nothing_is_waited_for() -> None:
    runs: list[int] = []

    def fail() -> str:
        runs.append(1)
        raise ResourceExhausted("out_of_memory", "Too little.")

    with pytest.raises(ResourceExhausted):
        with_room(fail, 60, make_room=lambda: None, memory=lambda: None)
    assert len(runs) == 1
