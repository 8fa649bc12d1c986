"""Accepted jobs: one of many concurrent requests creates a job, no job is lost, and the jobs of API keys are separate."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from panelworks.accounting.jobs import FinishedJobs
from panelworks.accounting.ledger import Ledger
from panelworks.domain.request import JobKey, Origin, PageRequest
from panelworks.domain.result import ErrorInfo, PageResult
from panelworks.page.admission import AcceptedJob, AcceptedJobs
from panelworks.settings import Settings
from panelworks.storage import ObjectFolder, open_folder


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectFolder:
    if request.param == "disk":
        return open_folder(str(tmp_path / "store"), Settings())
    bucket = request.getfixturevalue("bucket")
    return open_folder(f"s3://{bucket}/store", Settings())


def make_request(job_id: str = "p1", owner: str | None = None) -> PageRequest:
    return PageRequest(source="data:,x", out="out", job_id=job_id, origin=Origin(owner=owner))


def make_job(job_id: str = "p1", owner: str | None = None, attempt: int = 1) -> AcceptedJob:
    return AcceptedJob(
        request=make_request(job_id, owner), queue="events", accepted_at=datetime.now(UTC), attempt=attempt
    )


def test_one_of_twenty_concurrent_submissions_is_new(folder: ObjectFolder) -> None:
    accepted = AcceptedJobs(folder)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: accepted.accept(make_job()), range(20)))
        claims = set(pool.map(lambda n: accepted.claim(JobKey(None, "p1"), f"run-{n}"), range(20)))
    assert answers.count(None) == 1
    assert len(claims) == 1


def test_a_job_is_pending_until_it_has_a_run(folder: ObjectFolder) -> None:
    accepted, key = AcceptedJobs(folder), JobKey(None, "p1")
    assert accepted.find(key) is None
    accepted.accept(make_job())
    assert [one.request.job_id for one in accepted.pending()] == ["p1"]
    accepted.settle(make_job(), "run")
    assert list(accepted.pending()) == []
    found = accepted.accept(make_job())
    assert found is not None
    assert (found.settled, found.run_id) == (True, "run")
    assert accepted.accept(make_job(attempt=2)) is None, "a new attempt is accepted again"
    assert [one.attempt for one in accepted.pending()] == [2]


def test_owners_can_use_the_same_job_id(folder: ObjectFolder) -> None:
    accepted = AcceptedJobs(folder)
    owners = (None, "studio", "reader")
    assert [accepted.accept(make_job(owner=owner)) for owner in owners] == [None] * 3
    assert len({make_job(owner=owner).idempotency_key for owner in owners}) == 3
    accepted.grant_upload("studio", "abc")
    assert accepted.may_name_upload("studio", "abc")
    assert not accepted.may_name_upload("reader", "abc")


@pytest.mark.parametrize("damage", [b"", b"\0\0", b"[]", b'{"job', b"null"])
def test_a_damaged_record_is_treated_as_missing(folder: ObjectFolder, damage: bytes) -> None:
    """A damaged claim or content record does not make later requests for its page fail with 500."""
    accepted, key = AcceptedJobs(folder), JobKey(None, "p1")
    accepted.claim(key, "a")
    accepted.reserve_content(key, "content", "out")
    accepted.accept(make_job())
    for place in ("claims/", "accepted/"):
        for file in list(folder.files(place)):
            folder.write(file.name, damage, "application/json")
    assert accepted.claim(key, "b") == "b", "a page whose claim is damaged is processed"
    assert accepted.same_content(None, "content", "out") is None
    assert accepted.find(key) is None
    assert list(accepted.pending()) == []
    assert not list(folder.files("accepted/pending/")), (
        "the damaged record is moved out of the pending folder"
    )
    assert list(folder.files("damaged/"))


def test_another_run_can_claim_a_job_whose_run_failed(folder: ObjectFolder) -> None:
    accepted, key = AcceptedJobs(folder), JobKey(None, "p1")
    assert accepted.claim(key, "a") == "a"
    assert accepted.claim(key, "a") == "a", "a run that is restarted keeps its job"
    assert accepted.claim(key, "b") == "a"
    assert accepted.claim(key, "b", frozenset({"a"})) == "b"
    assert accepted.claim(key, "c", frozenset({"a"})) == "b"
    assert accepted.claimed_by(key) == "b"


def result(status: Literal["success", "error"], *, cached: bool = False) -> PageResult:
    error = ErrorInfo(code="truncated", message="The file is truncated.") if status == "error" else None
    return PageResult(job_id="p1", status=status, cached=cached, error=error)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([result("success"), result("success", cached=True)], ("success", False)),
        ([result("success"), result("error")], ("success", False)),
        ([result("error"), result("success")], ("success", False)),
        ([result("error"), result("success", cached=True)], ("success", True)),
        ([result("success", cached=True), result("success")], ("success", False)),
    ],
)
def test_the_ledger_row_with_the_cost_is_preserved(
    folder: ObjectFolder, results: list[PageResult], expected: tuple[str, bool]
) -> None:
    ledger, jobs = Ledger(folder), FinishedJobs(folder, Settings())
    for one in results:
        ledger.append(make_request(), one)
        jobs.store(make_request(), one)
    rows = ledger.read()
    assert rows[["status", "cached"]].to_numpy().tolist() == [list(expected)]
    record = jobs.job(JobKey(None, "p1"))
    assert record is not None
    assert record.result.status == "success", "a failure does not replace a delivered page"
    ledger.append(make_request(owner="studio"), results[-1])
    assert len(ledger.read()) == 2, "jobs of two API keys with the same id have separate rows"
