"""Budgets: limits of the cost of a day or a run, compared with the cost in the ledger."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from panelworks.accounting.ledger import Ledger
from panelworks.domain.fields import Frozen
from panelworks.settings import Settings

_READ_INTERVAL_SECONDS: Final = 10.0
"""Minimum interval between reads of the ledger, which may be in a bucket."""


class Halt(Frozen):
    """The reason why no new work starts."""

    reason: str
    until: datetime | None
    """When work continues; None if it does not."""


class Spending:
    """The cost of pages recorded since a moment. Each file of the ledger is read once."""

    def __init__(self, ledger: Ledger, since: datetime) -> None:
        self._ledger, self._since = ledger, since
        self._seen: dict[str, str] = {}
        self._costs: dict[str, list[tuple[str | None, float | None]]] = {}
        self.unpriced = False
        """Whether pages used a device without a price."""

    def read_new(self) -> None:
        """Read what was recorded since the last call.

        Raises:
            Transient: the ledger is unreachable.
        """
        for name, table in self._ledger.read_changed(self._since, self._seen):
            rows = table.select(["recorded_at", "run_id", "cost", "device_seconds"]).to_pylist()
            recent = [row for row in rows if row["recorded_at"] >= self._since]
            self._costs[name] = [(row["run_id"], row["cost"]) for row in recent]
            self.unpriced |= any(row["cost"] is None and row["device_seconds"] for row in recent)

    def total(self, run_id: str | None = None) -> float:
        """Cost of all pages, or of those of one run, in US dollars."""
        rows = (row for rows in self._costs.values() for row in rows)
        return sum(cost or 0.0 for run, cost in rows if run_id is None or run == run_id)


class Budget:
    """The budget of the day in the settings, and the budget of a backfill, if any."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        run_id: str | None = None,
        run_limit: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The run `run_id` may spend `run_limit` US dollars from now on."""
        self._daily_limit, self._run_limit, self._run_id = settings.budget_per_day, run_limit, run_id
        self._ledger, self._clock = ledger, clock
        self._day = self._midnight(datetime.now(UTC))
        self._today = Spending(ledger, self._day)
        self._run = Spending(ledger, datetime.now(UTC))
        self._read_at = float("-inf")

    @property
    def exists(self) -> bool:
        """Whether there is any budget."""
        return self._daily_limit is not None or self._run_limit is not None

    @property
    def unpriced(self) -> bool:
        """Whether pages used a device without a price, which no budget counts."""
        return self._today.unpriced or self._run.unpriced

    @property
    def spent_today(self) -> float:
        """Cost of this day's pages in US dollars, as of the last read."""
        return self._today.total()

    def reached(self, now: datetime) -> Halt | None:
        """The exhausted budget, if any: that of the run before that of the day.

        Raises:
            Transient: the ledger is unreachable.
        """
        if not self.exists:
            return None
        self._read_ledger(now)
        if self._run_limit is not None and (cost := self._run.total(self._run_id)) >= self._run_limit:
            return Halt(reason=f"{cost:.2f} USD of the budget of {self._run_limit:.2f} are spent", until=None)
        if self._daily_limit is not None and (cost := self._today.total()) >= self._daily_limit:
            until = self._day + timedelta(days=1)
            reason = f"{cost:.2f} USD of the daily budget of {self._daily_limit:.2f} are spent today"
            return Halt(reason=reason, until=until)
        return None

    def _read_ledger(self, now: datetime) -> None:
        if self._midnight(now) != self._day:
            self._day = self._midnight(now)
            self._today = Spending(self._ledger, self._day)
        elif self._clock() - self._read_at < _READ_INTERVAL_SECONDS:
            return
        self._read_at = self._clock()
        if self._run_limit is not None:
            self._run.read_new()
        if self._daily_limit is not None:
            self._today.read_new()

    def _midnight(self, now: datetime) -> datetime:
        """Midnight (UTC) of the day of a moment."""
        return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
