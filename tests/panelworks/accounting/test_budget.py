"""Budgets, with a real ledger."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from panelworks.accounting.budget import Budget, Spending
from panelworks.accounting.ledger import Ledger, open_ledger
from panelworks.domain.books import BookRequest, BookResult, PageDone
from panelworks.domain.request import PageRequest
from panelworks.domain.result import Cost, PageResult
from panelworks.settings import Settings
from tests.outcomes import outcome

TODAY = datetime.now(UTC)
HOUR = 3600


@pytest.fixture
def ledger(settings: Settings) -> Ledger:
    return open_ledger(settings)


def spend_on_page(ledger: Ledger, usd: float | None, job_id: str = "job") -> None:
    """Record a page with this cost."""
    cost = Cost(pool="here", gpu_seconds=1.0, usd=usd)
    request = PageRequest(source="page.png", out="out", job_id=job_id)
    ledger.append(request, PageResult(job_id=job_id, status="success", cost=cost))


def spend_on_book(
    ledger: Ledger, seconds: float, settings: Settings, run_id: str, out: str = "a.cbz"
) -> None:
    """Record a book of one page that used the device for some seconds."""
    request = BookRequest(source="a.cbz", out=out, run_id=run_id)
    page = PageDone(index=0, name="1.png", state="enhanced", outcome=outcome(seconds={"total": 1.0}))
    result = BookResult(source="a.cbz", out=out, status="success", seconds=seconds)
    ledger.append_book(request, [page], result, settings)


def budget(
    settings: Settings, ledger: Ledger, *, run_id: str | None = None, of_run: float | None = None
) -> Budget:
    """A budget that reads the ledger each time."""
    ticks = iter(range(0, 10**6, 1000))
    return Budget(settings, ledger, run_id=run_id, run_limit=of_run, clock=lambda: float(next(ticks)))


def test_without_a_budget_no_limit_is_reached(settings: Settings, ledger: Ledger) -> None:
    spend_on_page(ledger, 1000.0)
    unbounded = budget(settings, ledger)
    assert not unbounded.exists
    assert unbounded.reached(TODAY) is None


def test_the_next_day_has_a_new_budget(settings: Settings, ledger: Ledger) -> None:
    bounded = budget(settings.model_copy(update={"budget_per_day": 2.0}), ledger)
    spend_on_page(ledger, 1.5, "first")
    assert bounded.reached(TODAY) is None
    spend_on_page(ledger, 0.5, "second")
    spent = bounded.reached(TODAY)
    assert spent is not None and spent.reason == "2.00 USD of the daily budget of 2.00 are spent today"
    tomorrow = (TODAY + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert spent.until == tomorrow
    assert bounded.reached(tomorrow) is None


def test_books_count_once_with_their_price(settings: Settings, ledger: Ledger) -> None:
    priced = settings.model_copy(update={"budget_per_day": 5.0, "gpu_price_per_hour": 3.0})
    bounded = budget(priced, ledger)
    for _ in range(2):  # bound again, it replaces its rows
        spend_on_book(ledger, HOUR, priced, "run")
    assert bounded.reached(TODAY) is None
    assert bounded.spent_today == pytest.approx(3.0)
    spend_on_book(ledger, HOUR, priced, "run", out="b.cbz")
    assert bounded.reached(TODAY) is not None


def test_the_budget_of_a_run_is_not_renewed(settings: Settings, ledger: Ledger) -> None:
    priced = settings.model_copy(update={"gpu_price_per_hour": 3.0})
    spend_on_book(ledger, HOUR, priced, "earlier")
    bounded = budget(priced, ledger, run_id="mine", of_run=4.0)
    spend_on_book(ledger, HOUR, priced, "other", out="b.cbz")
    spend_on_book(ledger, HOUR, priced, "mine", out="c.cbz")
    assert bounded.reached(TODAY) is None
    spend_on_book(ledger, HOUR, priced, "mine", out="d.cbz")
    spent = bounded.reached(TODAY)
    assert spent is not None and spent.until is None
    assert spent.reason == "6.00 USD of the budget of 4.00 are spent"


def test_pages_without_a_price_are_reported(settings: Settings, ledger: Ledger) -> None:
    bounded = budget(settings.model_copy(update={"budget_per_day": 1.0}), ledger)
    spend_on_page(ledger, None)
    assert bounded.reached(TODAY) is None
    assert bounded.unpriced


def test_only_new_files_are_read(
    settings: Settings, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending = Spending(ledger, TODAY - timedelta(hours=1))
    spend_on_page(ledger, 1.0, "first")
    spending.read_new()
    read: list[str] = []
    folder = ledger._folder
    real = folder.read

    def counted(name: str, limit: int | None = None) -> bytes | None:
        read.append(name)
        return real(name, limit)

    monkeypatch.setattr(folder, "read", counted)
    spend_on_page(ledger, 2.0, "second")
    spending.read_new()
    assert len(read) == 1
    assert spending.total() == 3.0


def test_a_bucket_counts_like_a_folder(bucket: str, settings: Settings) -> None:
    in_bucket = Settings(ledger=f"s3://{bucket}/ledger")
    remote = open_ledger(in_bucket)
    spend_on_page(remote, 1.25)
    assert budget(in_bucket.model_copy(update={"budget_per_day": 1.0}), remote).reached(TODAY) is not None
