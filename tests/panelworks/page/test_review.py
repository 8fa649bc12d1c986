"""Reviews: which pages wait, what a decision publishes, who decides, and what a process that ended leaves."""

import json
from pathlib import Path

import pytest

from panelworks.accounting.ledger import REVIEWED
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import JobKey, PageRequest
from panelworks.domain.result import Fallback, FallbackAttempt, JobRecord, PageResult
from panelworks.errors import PanelworksError, Rejected
from panelworks.page.decisions import Decision
from panelworks.page.delivery import review_of
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine, get_engine
from panelworks.page.review import Reviews
from panelworks.settings import ReviewPolicy, Settings
from panelworks.storage.location import Location
from tests.outcomes import outcome
from tests.pages import write_page

KEY = JobKey(None, "job")
USED = Fallback(
    reason="a seam",
    attempts=(FallbackAttempt(name="plain", model="lanczos", passed=True, reason="", taken=True),),
)
TRIED = Fallback(
    reason="a seam", attempts=(FallbackAttempt(name="plain", model="lanczos", passed=False, reason="no"),)
)


def deliver(folder: Path, review: ReviewPolicy | None = "always", **options: object) -> PageResult:
    page = write_page(folder / "page.png")
    chosen = EnhanceOptions.model_validate({"review": review, **options})
    return enhance_directly(
        PageRequest(source=str(page), out=str(folder / "out"), job_id="job", options=chosen)
    )


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def end_process(*_: object) -> None:
    raise KeyboardInterrupt


def record() -> JobRecord:
    found = get_engine().jobs.job(KEY)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("policy", "route", "fallback", "target", "reason"),
    [
        ("never", "couldn't_upscale", USED, 1.0, None),
        ("doubtful", "upscaled", None, 0.0, None),
        ("doubtful", "upscaled", TRIED, 0.0, None),
        ("doubtful", "upscaled", USED, 0.0, "a fallback was used: a seam"),
        ("doubtful", "couldn't_upscale", TRIED, 0.0, "the original was kept: a seam"),
        ("doubtful", "upscaled", None, 1.0, "below the target of 1.00"),
        ("always", "good_quality", None, 0.0, "all pages are reviewed"),
    ],
)
def test_the_policy_decides_which_pages_wait(
    policy: ReviewPolicy,
    route: str,
    fallback: Fallback | None,
    target: float,
    reason: str | None,
    settings: Settings,
) -> None:
    made = outcome().model_copy(update={"route": route, "fallback": fallback})
    wanted = settings.model_copy(update={"target_score": target, "review": policy})
    review = review_of(EnhanceOptions(), made, wanted)
    assert review_of(EnhanceOptions(review="never"), made, wanted) is None
    assert (review is None) == (reason is None)
    assert reason is None or (review and reason in "; ".join(review.reasons))


def test_a_page_that_waits_is_only_under_review(tmp_path: Path) -> None:
    result = deliver(tmp_path)
    assert result.awaits_review
    assert {name.split("/")[0] for name in files_in(tmp_path / "out")} == {"review"}
    rows = get_engine().ledger.read()
    assert rows["review"].tolist() == ["pending"]


def test_the_policy_does_not_change_the_work(tmp_path: Path) -> None:
    waiting, published = deliver(tmp_path), deliver(tmp_path, "never")
    assert waiting.content_key == published.content_key
    assert published.cached, "the pictures were computed once"


def test_an_approved_page_is_where_it_would_have_been(tmp_path: Path) -> None:
    waiting = deliver(tmp_path)
    approved = Reviews(get_engine()).decide(KEY, Decision(state="approved", by="ann", comment="fine"))
    assert record() == approved
    there = files_in(tmp_path / "out")
    contents = {name: (tmp_path / "out" / name).read_bytes() for name in there if "results" not in name}
    (tmp_path / "plain").mkdir()
    deliver(tmp_path / "plain", "never")
    expected = files_in(tmp_path / "plain" / "out")
    assert there == expected
    for name, data in contents.items():
        assert data == (tmp_path / "plain" / "out" / name).read_bytes()
    review = approved.result.review
    assert review is not None
    assert (review.state, review.decided_by, review.comment) == ("approved", "ann", "fine")
    written = json.loads((tmp_path / "out" / "results" / f"{waiting.content_key}.json").read_text())
    assert written == approved.result.model_dump(mode="json")


def test_the_ledger_says_who_decided_what_and_costs_once(tmp_path: Path) -> None:
    deliver(tmp_path)
    Reviews(get_engine()).decide(KEY, Decision(state="approved", by="ann", comment="fine"))
    rows = get_engine().ledger.read()
    assert rows["status"].tolist() == ["success", REVIEWED]
    assert rows["review"].tolist() == ["pending", "approved"]
    last = rows.iloc[-1]
    assert (last["reviewed_by"], last["review_comment"]) == ("ann", "fine")
    assert last[["seconds", "device_seconds", "cost"]].isna().all()


def test_a_rejected_page_is_replaced_by_its_original(tmp_path: Path) -> None:
    waiting = deliver(tmp_path)
    rejected = Reviews(get_engine()).decide(KEY, Decision(state="rejected", by="ann")).result
    assert rejected.source and rejected.master and rejected.quality and waiting.quality
    assert (rejected.route, rejected.model, rejected.scale) == ("couldn't_upscale", None, 1.0)
    assert Location.parse(rejected.master.uri).path.read_bytes() == (tmp_path / "page.png").read_bytes()
    assert rejected.quality.after == waiting.quality.before
    assert {one.name for one in rejected.variants} == {one.name for one in waiting.variants}
    assert all(one.width <= rejected.source.width for one in rejected.variants)
    for one in rejected.variants:
        assert Location.parse(one.uri).path.stat().st_size == one.bytes
    assert not [name for name in files_in(tmp_path / "out") if name.startswith("review/")]


def test_a_page_can_be_rejected_without_a_replacement(tmp_path: Path) -> None:
    deliver(tmp_path)
    before = files_in(tmp_path / "out")
    rejected = Reviews(get_engine()).decide(KEY, Decision(state="rejected", publish_original=False))
    assert rejected.result.review is not None
    assert rejected.result.review.state == "rejected"
    assert files_in(tmp_path / "out") == before, "the picture can still be looked at"


def test_deciding_again_changes_nothing_and_the_first_decision_stands(tmp_path: Path) -> None:
    deliver(tmp_path)
    reviews = Reviews(get_engine())
    first = reviews.decide(KEY, Decision(state="approved", by="ann"))
    assert reviews.decide(KEY, Decision(state="approved", by="bob")) == first
    with pytest.raises(Rejected, match="ann approved this page on") as error:
        reviews.decide(KEY, Decision(state="rejected", by="bob"))
    assert error.value.code == "already_reviewed"
    assert record() == first


@pytest.mark.parametrize(
    ("review", "key", "code"),
    [("never", KEY, "not_reviewed"), ("always", JobKey(None, "other"), "unknown_job")],
)
def test_what_does_not_wait_cannot_be_decided(
    review: ReviewPolicy, key: JobKey, code: str, tmp_path: Path
) -> None:
    deliver(tmp_path, review)
    with pytest.raises(PanelworksError) as error:
        Reviews(get_engine()).decide(key, Decision(state="approved"))
    assert error.value.code == code


def test_pictures_that_were_removed_are_reported(tmp_path: Path) -> None:
    result = deliver(tmp_path)
    assert result.master is not None
    Location.parse(result.master.uri).path.unlink()
    with pytest.raises(Rejected, match="process the page again"):
        Reviews(get_engine()).decide(KEY, Decision(state="approved"))


def test_a_decision_whose_process_ended_is_carried_out_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after the decision was stored and the pictures were copied, before the record says so."""
    deliver(tmp_path)
    reviews = Reviews(get_engine())
    with monkeypatch.context() as patched:
        patched.setattr(get_engine().ledger, "append_decision", end_process)
        with pytest.raises(KeyboardInterrupt):
            reviews.decide(KEY, Decision(state="approved", by="ann"))
    assert record().result.awaits_review
    ((identity, stored),) = reviews.decisions.unreported()
    assert stored.key == KEY
    reviews.decide(stored.key, stored.decision)
    review = record().result.review
    assert review is not None
    assert (review.state, review.decided_by) == ("approved", "ann")
    reviews.decisions.mark_reported(identity)
    assert list(reviews.decisions.unreported()) == []


def test_a_process_that_ended_before_it_did_anything_loses_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends right after the decision was stored; the person decides again."""
    deliver(tmp_path)
    reviews = Reviews(get_engine())
    with monkeypatch.context() as patched:
        patched.setattr(reviews, "_carry_out", end_process)
        with pytest.raises(KeyboardInterrupt):
            reviews.decide(KEY, Decision(state="approved", by="ann"))
    reviews.decide(KEY, Decision(state="approved", by="ann"))
    assert [stored.key for _, stored in reviews.decisions.unreported()] == [KEY]
    review = record().result.review
    assert review is not None
    assert review.state == "approved"


def test_a_job_that_is_processed_again_waits_again(tmp_path: Path) -> None:
    deliver(tmp_path)
    reviews = Reviews(get_engine())
    reviews.decide(KEY, Decision(state="approved", by="ann"))
    assert deliver(tmp_path).awaits_review
    reviews.decide(KEY, Decision(state="rejected", by="bob"))
    review = record().result.review
    assert review is not None
    assert (review.state, review.decided_by) == ("rejected", "bob")


def test_an_original_that_is_no_longer_stored_is_reported(tmp_path: Path) -> None:
    result = deliver(tmp_path)
    assert result.source is not None
    engine = Engine(get_engine().settings)  # nothing in memory
    for path in Path(engine.settings.store_location).rglob(f"*{result.source.sha256}*"):
        path.unlink()
    with pytest.raises(Rejected, match="process the page again"):
        Reviews(engine).decide(KEY, Decision(state="rejected"))
