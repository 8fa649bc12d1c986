"""Until when, and for how much money, a backfill begins further books."""

from datetime import datetime

from panelworks.budget import Budget, Halt


class Limits:
    """The end of a window, and budgets."""

    def __init__(self, end: datetime | None, budget: Budget) -> None:
        """After `end` no book is begun; None: at any time."""
        self._end = end
        self.budget = budget

    def reached(self, now: datetime) -> Halt | None:
        """The limit that stands in the way of another book, if one does.

        Raises:
            Transient: the ledger, which knows what was spent, cannot be reached now.
        """
        if self._end is not None and now >= self._end:
            return Halt(reason="the window ends", until=None)
        return self.budget.reached(now)
