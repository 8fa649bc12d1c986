"""Rows of the ledger: what is written is what is read."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panelworks.accounting.ledger import Ledger
from panelworks.domain.books import BookRequest, BookResult
from panelworks.domain.request import PageRequest
from panelworks.domain.result import Cost, ErrorInfo, PageResult
from panelworks.settings import Settings
from panelworks.storage.local import LocalFolder

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
NUMBERS = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
WITHOUT_PANDAS = """
import sys
from panelworks.accounting.ledger import Ledger
from panelworks.domain.request import PageRequest
from panelworks.domain.result import PageResult
from panelworks.storage.local import LocalFolder

ledger = Ledger(LocalFolder(sys.argv[1]))
for status in ("success", "error"):
    ledger.append(PageRequest(source="a", out="b", job_id="c"), PageResult(job_id="c", status=status))
assert "pandas" not in sys.modules
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledger")


@given(message=TEXTS, code=TEXTS, scale=NUMBERS, seconds=NUMBERS, usd=st.none() | NUMBERS)
def test_values_of_a_row_are_kept(
    message: str, code: str, scale: float, seconds: float, usd: float | None, folder: Path
) -> None:
    ledger = Ledger(LocalFolder(folder))
    result = PageResult(
        job_id="job",
        status="success",
        scale=scale,
        seconds={"total": seconds, "enhance": seconds / 2},
        cost=Cost(pool="here", gpu_seconds=seconds, usd=usd),
        error=ErrorInfo(code=code, message=message, fault="input"),
        notes=(message,) if message else (),
    )
    ledger.append(PageRequest(source="page.png", out="out", job_id="job"), result)
    row = ledger.read().iloc[0].to_dict()
    assert (row["error"], row["message"]) == (code, message)
    assert row["notes"] == message or not message
    assert (row["scale"], row["seconds"], row["seconds_enhance"]) == (scale, seconds, seconds / 2)
    assert row["cost"] == usd or (usd is None and row["cost"] != row["cost"])
    assert abs(row["recorded_at"].to_pydatetime() - datetime.now(UTC)) < timedelta(minutes=5)


def test_a_number_that_is_not_finite_is_no_value(tmp_path: Path) -> None:
    ledger = Ledger(LocalFolder(tmp_path))
    ledger.append(
        PageRequest(source="page.png", out="out", job_id="job"),
        PageResult(job_id="job", status="success", scale=float("inf"), seconds={"total": float("nan")}),
    )
    assert ledger.read()[["scale", "seconds"]].isna().all(axis=None)


def test_a_book_without_a_page_has_no_row(tmp_path: Path, settings: Settings) -> None:
    ledger = Ledger(LocalFolder(tmp_path))
    request = BookRequest(source="a.cbz", out="b.cbz", run_id="run")
    ledger.append_book(request, [], BookResult(source="a.cbz", out="b.cbz", status="success"), settings)
    assert ledger.read().empty


def test_writing_a_row_does_not_import_pandas(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_PANDAS, str(tmp_path)], check=True, timeout=60)
