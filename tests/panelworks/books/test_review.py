"""Reviews of books: which wait, where, what a decision publishes, and what later runs do with them."""

import zipfile
from pathlib import Path

import boto3
import pytest

from panelworks.accounting.ledger import REVIEWED
from panelworks.books import publishing
from panelworks.books.direct import enhance_book_directly
from panelworks.books.publishing import waiting_place
from panelworks.books.register import BookRegister
from panelworks.books.report import report_of
from panelworks.books.review import BookReviews
from panelworks.domain.books import BookOptions, BookRequest, BookResult
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.result import ReviewState
from panelworks.errors import Misconfigured, PanelworksError, Rejected
from panelworks.page.decisions import Decision
from panelworks.page.engine import Engine
from panelworks.settings import ReviewPolicy
from tests.books import page_file, write_book, write_zip

DAMAGED = [("1.png", page_file(1)), ("2.png", b"no picture")]


def request(folder: Path, engine: Engine, policy: ReviewPolicy | None, *, force: bool = False) -> BookRequest:
    del engine
    page = EnhanceOptions(model="lanczos", review=policy)
    return BookRequest(
        source=str(folder / "book.cbz"),
        out=str(folder / "out" / "book.cbz"),
        options=BookOptions(page=page),
        run_id="run",
        force=force,
    )


def run(folder: Path, engine: Engine, policy: ReviewPolicy | None = "always") -> BookResult:
    if not (folder / "book.cbz").exists():
        write_book(folder / "book.cbz", 2)
    result = enhance_book_directly(request(folder, engine, policy), engine)
    assert result.error is None
    return result


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def waiting_name(folder: Path) -> str:
    return Path(waiting_place(str(folder / "out" / "book.cbz"))).relative_to(folder / "out").as_posix()


@pytest.mark.parametrize(
    ("policy", "entries", "waits", "reason"),
    [
        ("never", DAMAGED, False, None),
        (None, DAMAGED, False, None),
        ("doubtful", None, False, None),
        ("doubtful", DAMAGED, True, "2.png: the original was kept:"),
        ("always", None, True, "all books are reviewed"),
    ],
)
def test_policy_and_pages_decide_which_books_wait(
    tmp_path: Path,
    engine: Engine,
    policy: ReviewPolicy | None,
    entries: list[tuple[str, bytes]] | None,
    waits: bool,
    reason: str | None,
) -> None:
    if entries:
        write_zip(tmp_path / "book.cbz", entries)
    result = run(tmp_path, engine, policy)
    assert result.awaits_review == waits
    assert files_in(tmp_path / "out") == {waiting_name(tmp_path) if waits else "book.cbz"}
    if reason:
        assert result.review is not None
        assert result.review.reasons[0].startswith(reason)
    assert set(engine.ledger.read()["review"].fillna("")) == {"pending" if waits else ""}


@pytest.mark.parametrize(
    ("state", "files"), [("approved", {"book.cbz"}), ("rejected", set())], ids=["approved", "rejected"]
)
def test_a_decision_publishes_the_book_or_removes_it(
    tmp_path: Path, engine: Engine, state: ReviewState, files: set[str]
) -> None:
    waiting = run(tmp_path, engine)
    assert state != "pending"
    reviews = BookReviews(engine)
    result = reviews.decide(waiting.out, Decision(state=state, by="ann", comment="page 2"))
    assert files_in(tmp_path / "out") == files
    assert (tmp_path / "book.cbz").exists()
    assert not (tmp_path / "out" / "review").exists()
    rows = engine.ledger.read()
    (row,) = rows[rows["status"] == REVIEWED].to_dict("records")
    assert (row["out"], row["review"], row["reviewed_by"], row["review_comment"]) == (
        waiting.out, state, "ann", "page 2",
    )  # fmt: skip
    assert reviews.decide(waiting.out, Decision(state=state, by="bob")) == result
    with pytest.raises(Rejected, match=r"ann .* this book on"):
        reviews.decide(
            waiting.out, Decision(state="approved" if state == "rejected" else "rejected", by="bob")
        )
    ((_, stored),) = reviews.decisions.unreported()
    assert (stored.out, stored.decision.by) == (waiting.out, "ann")
    # A later run does not process it again, whatever was decided.
    assert run(tmp_path, engine).skipped
    assert files_in(tmp_path / "out") == files


def test_a_report_counts_pages_and_no_decision(tmp_path: Path, engine: Engine) -> None:
    waiting = run(tmp_path, engine)
    BookReviews(engine).decide(waiting.out, Decision(state="rejected"))
    statistics, _ = report_of(engine.ledger.read(), "Report", engine.settings)
    assert (statistics.books, statistics.books_failed, statistics.pages) == (1, 0, 2)
    assert statistics.failures == ()


def test_a_book_that_waits_is_finished_unless_it_may_be_published_now(tmp_path: Path, engine: Engine) -> None:
    run(tmp_path, engine)
    assert run(tmp_path, engine).skipped
    assert run(tmp_path, engine, "doubtful").skipped
    published = run(tmp_path, engine, "never")
    assert (published.skipped, published.cached, published.review) == (False, 2, None)
    assert files_in(tmp_path / "out") == {"book.cbz"}


def test_a_book_that_a_person_approved_is_replaced_only_with_a_review(tmp_path: Path, engine: Engine) -> None:
    waiting = run(tmp_path, engine)
    BookReviews(engine).decide(waiting.out, Decision(state="approved", by="ann"))
    write_book(tmp_path / "book.cbz", 3)
    again = enhance_book_directly(request(tmp_path, engine, None, force=True), engine)
    assert again.review is not None
    assert again.review.reasons == ("it replaces a book that ann approved",)
    # The request itself may say that it is published at once.
    assert enhance_book_directly(request(tmp_path, engine, "never", force=True), engine).review is None


def test_the_published_book_stays_until_the_next_one_is_approved(tmp_path: Path, engine: Engine) -> None:
    published = run(tmp_path, engine, "never")
    before = Path(published.out).read_bytes()
    write_book(tmp_path / "book.cbz", 3)
    waiting = enhance_book_directly(request(tmp_path, engine, "always", force=True), engine)
    assert waiting.awaits_review
    assert Path(published.out).read_bytes() == before
    BookReviews(engine).decide(waiting.out, Decision(state="approved"))
    with zipfile.ZipFile(published.out) as book:
        assert len([name for name in book.namelist() if name.startswith("page")]) == 3


def test_a_process_that_ends_between_store_and_move_is_followed(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = run(tmp_path, engine)
    reviews = BookReviews(engine)
    with monkeypatch.context() as patch:

        def end_process(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(BookRegister, "enter_decision", end_process)
        with pytest.raises(KeyboardInterrupt):
            reviews.decide(waiting.out, Decision(state="approved", by="ann"))
    assert files_in(tmp_path / "out") == {"book.cbz"}
    ((_, stored),) = reviews.decisions.unreported()
    result = BookReviews(engine).decide(stored.out, stored.decision)
    assert (result.review is not None) and result.review.decided_by == "ann"
    assert result.place == result.out


def test_a_file_of_somebody_else_is_not_replaced(tmp_path: Path, engine: Engine) -> None:
    waiting = run(tmp_path, engine)
    Path(waiting.out).write_bytes(b"bought in a shop")
    reviews = BookReviews(engine)
    with pytest.raises(Misconfigured, match="not written by Panelworks"):
        reviews.decide(waiting.out, Decision(state="approved"))
    assert files_in(tmp_path / "out") == {"book.cbz", waiting_name(tmp_path)}
    # Nothing was decided: the person may still reject it.
    assert reviews.decide(waiting.out, Decision(state="rejected")).was_rejected
    assert Path(waiting.out).read_bytes() == b"bought in a shop"


@pytest.mark.parametrize("policy", ["never", "always"])
def test_only_books_that_wait_can_be_decided(tmp_path: Path, engine: Engine, policy: ReviewPolicy) -> None:
    result = run(tmp_path, engine, policy)
    reviews = BookReviews(engine)
    with pytest.raises(PanelworksError) as unknown:
        reviews.decide(f"{result.out}.other", Decision(state="approved"))
    assert unknown.value.code == "unknown_book"
    if policy == "always":
        Path(result.place).unlink()
    with pytest.raises(PanelworksError) as refused:
        reviews.decide(result.out, Decision(state="approved"))
    assert refused.value.code == ("not_reviewed" if policy == "never" else "not_found")


def test_the_place_of_a_waiting_book_is_that_of_no_finished_one() -> None:
    assert waiting_place("/out/A/Vol 1.cbz").startswith("/out/A/review/Vol 1-")
    assert waiting_place("s3://books/A/Vol 1.cbz").startswith("s3://books/A/review/Vol 1-")
    assert waiting_place("/out/Vol 1.cbz") != "/out/review/Vol 1.cbz"


def test_books_wait_and_are_approved_in_a_bucket(tmp_path: Path, bucket: str, engine: Engine) -> None:
    write_book(tmp_path / "book.cbz", 2)
    wanted = request(tmp_path, engine, "always").model_copy(update={"out": f"s3://{bucket}/done/book.cbz"})
    waiting = enhance_book_directly(wanted, engine)
    client = boto3.client("s3", endpoint_url=engine.settings.s3_endpoint)

    def keys() -> list[str]:
        return [one["Key"] for one in client.list_objects_v2(Bucket=bucket).get("Contents", [])]

    assert [f"s3://{bucket}/{key}" for key in keys()] == [waiting.place]
    assert BookReviews(engine).decide(waiting.out, Decision(state="approved")).review is not None
    assert keys() == ["done/book.cbz"]
    publishing.refuse_to_overwrite(wanted, engine.settings)  # it is ours: its metadata were copied
    assert enhance_book_directly(wanted, engine).skipped
