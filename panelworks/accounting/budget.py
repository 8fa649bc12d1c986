"""What pages cost, and budgets: how much may be spent in a day, month or run."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from panelworks.accounting.ledger import Ledger
from panelworks.domain.fields import Frozen
from panelworks.settings import Settings

_EVERY: Final = 10.0
"""Seconds between two looks at the ledger, which may lie in a bucket."""


class Halt(Frozen):
    """No new work is begun."""

    reason: str
    until: datetime | None
    """When it goes on by itself; None if it does not."""


class Spending:
    """What recorded pages cost since a moment; each file of the ledger is read once."""

    def __init__(self, ledger: Ledger, since: datetime) -> None:
        self._ledger, self._since = ledger, since
        self._seen: dict[str, str] = {}
        self._costs: dict[str, list[tuple[str | None, float | None]]] = {}
        self.unpriced = False
        """Did pages hold a device that has no price?"""

    def look(self) -> None:
        """Take in what was recorded since the last look.

        Raises:
            Transient: the ledger cannot be reached now.
        """
        for name, table in self._ledger.changed(self._since, self._seen):
            rows = table.select(["recorded_at", "run_id", "cost", "device_seconds"]).to_pylist()
            recent = [row for row in rows if row["recorded_at"] >= self._since]
            self._costs[name] = [(row["run_id"], row["cost"]) for row in recent]
            self.unpriced |= any(row["cost"] is None and row["device_seconds"] for row in recent)

    def total(self, run_id: str | None = None) -> float:
        """US dollars of all pages, or of those of one run."""
        rows = (row for rows in self._costs.values() for row in rows)
        return sum(cost or 0.0 for run, cost in rows if run_id is None or run == run_id)


class Budget:
    """The budget of the day, if the settings have one, and that of a backfill, if it was given one."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        run_id: str | None = None,
        of_run: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A run that is known by `run_id` may spend `of_run` US dollars from now on."""
        self._of_day, self._of_run, self._run_id = settings.budget_per_day, of_run, run_id
        self._ledger, self._clock = ledger, clock
        self._day = self._begin(datetime.now(UTC))
        self._today = Spending(ledger, self._day)
        self._run = Spending(ledger, datetime.now(UTC))
        self._looked = float("-inf")

    @property
    def exists(self) -> bool:
        """Is there a budget at all?"""
        return self._of_day is not None or self._of_run is not None

    @property
    def unpriced(self) -> bool:
        """Did pages hold a device that has no price, so that no budget counts them?"""
        return self._today.unpriced or self._run.unpriced

    @property
    def spent_today(self) -> float:
        """US dollars of the pages of this day, as of the last look."""
        return self._today.total()

    def reached(self, now: datetime) -> Halt | None:
        """The budget that is used up, if one is: that of the run before that of the day.

        Raises:
            Transient: the ledger cannot be reached now.
        """
        if not self.exists:
            return None
        self._look(now)
        if self._of_run is not None and (cost := self._run.total(self._run_id)) >= self._of_run:
            return Halt(reason=f"{cost:.2f} USD are spent, of a budget of {self._of_run:.2f}", until=None)
        if self._of_day is not None and (cost := self._today.total()) >= self._of_day:
            until = self._day + timedelta(days=1)
            told = f"{cost:.2f} USD are spent today, of a budget of {self._of_day:.2f} a day"
            return Halt(reason=told, until=until)
        return None

    def _look(self, now: datetime) -> None:
        if self._begin(now) != self._day:
            self._day = self._begin(now)
            self._today = Spending(self._ledger, self._day)
        elif self._clock() - self._looked < _EVERY:
            return
        self._looked = self._clock()
        if self._of_run is not None:
            self._run.look()
        if self._of_day is not None:
            self._today.look()

    def _begin(self, now: datetime) -> datetime:
        """Midnight (UTC) of a day."""
        return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
