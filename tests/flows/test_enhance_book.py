"""Books as flows, against a real Prefect server."""

from pathlib import Path
from uuid import UUID

import pytest
from markdown_it import MarkdownIt
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)

from flows.backfill import backfill
from flows.enhance_book import enhance_book
from panelworks.accounting.ledger import open_ledger
from panelworks.books.backfill import request_of
from panelworks.books.direct import enhance_book_directly
from panelworks.domain.books import BackfillSummary, BookOptions, BookResult
from panelworks.page.engine import Engine, get_engine
from panelworks.settings import Settings
from tests.books import names_in, write_book, write_zip


def artifacts(flow_run_id: UUID) -> dict[str, str]:
    """Key and content of what a run shows."""
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        return {one.key or "": str(one.data) for one in client.read_artifacts(artifact_filter=wanted)}


def test_both_modes_bind_the_same_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    source = write_book(tmp_path / "book.cbz", 4, extras={"ComicInfo.xml": b"<ComicInfo/>"})
    state = enhance_book(str(source), str(tmp_path / "flow"), return_state=True)
    result = state.result()
    assert isinstance(result, BookResult)
    assert (result.pages, result.states) == (4, {"enhanced": 4})
    engine = Engine(settings.model_copy(update={"cache_dir": tmp_path / "other"}))
    request = request_of(
        str(source), str(tmp_path / "direct"), BookOptions(), engine.settings, "run", force=False
    )
    assert enhance_book_directly(request, engine).status == "success"
    assert (tmp_path / "flow" / "book.cbz").read_bytes() == (tmp_path / "direct" / "book.cbz").read_bytes()
    assert state.state_details.flow_run_id
    shown = artifacts(state.state_details.flow_run_id)
    assert "4 pages" in shown["book"]
    assert "pages" not in shown, "a progress bar is for books that take long"
    again = enhance_book(str(source), str(tmp_path / "flow"))
    assert again.skipped


def test_names_in_a_book_are_shown_as_text_in_its_artifact(tmp_path: Path) -> None:
    hostile = "![x](https:__evil.example_p.png) <img src=x>.png"
    source = write_book(tmp_path / "[book](javascript:alert(1)).cbz", 1, extras={hostile: b"no picture"})
    state = enhance_book(str(source), str(tmp_path / "out"), return_state=True)
    assert state.state_details.flow_run_id
    text = artifacts(state.state_details.flow_run_id)["book"]
    tokens = [child for token in MarkdownIt().parse(text) for child in token.children or ()]
    assert not {token.type for token in tokens} & {"image", "link_open", "html_inline"}
    assert "evil" in "".join(token.content for token in tokens)


def test_a_page_that_fails_does_not_fail_its_book(tmp_path: Path) -> None:
    source = write_book(tmp_path / "book.cbz", 2, extras={"page 3.png": b"no picture"})
    result = enhance_book(str(source), str(tmp_path / "out.cbz"))
    assert result.states == {"enhanced": 2, "failed": 1}
    assert names_in(tmp_path / "out.cbz")[:3] == ["page 1.png", "page 2.png", "page 3.png"]


def test_a_book_that_cannot_be_read_fails_its_run_with_a_sentence(tmp_path: Path, settings: Settings) -> None:
    source = write_zip(tmp_path / "book.cbz", [("readme.txt", b"hi")])
    state = enhance_book(str(source), str(tmp_path / "out"), return_state=True)
    assert state.is_failed()
    assert "There is no picture in this book. [no_pages]" in (state.message or "")
    assert open_ledger(settings).read()["error"].tolist() == ["no_pages"]


def test_an_archive_is_backfilled_here_and_reported(tmp_path: Path) -> None:
    write_book(tmp_path / "in" / "a.cbz", 2)
    write_book(tmp_path / "in" / "deep" / "b.cbz", 1, first_seed=9)
    write_zip(tmp_path / "in" / "c.cbz", [("readme.txt", b"hi")])
    state = backfill(str(tmp_path / "in"), str(tmp_path / "out"), here=True, return_state=True)
    summary = state.result()
    assert isinstance(summary, BackfillSummary)
    assert (summary.books, summary.done, summary.left) == (3, 2, 0)
    assert [Path(book).name for book in summary.failed] == ["c.cbz"]
    assert (tmp_path / "out" / "deep" / "b.cbz").is_file()
    assert state.state_details.flow_run_id
    shown = artifacts(state.state_details.flow_run_id)
    assert "2 done now" in shown["backfill"]
    assert "no_pages" in shown["failures"]
    report = (
        Path(get_engine().settings.ledger_location) / "_reports" / f"{state.state_details.flow_run_id}.html"
    )
    assert "a.cbz" in report.read_text()
    again = backfill(str(tmp_path / "in"), str(tmp_path / "out"), here=True, return_state=True)
    assert again.is_failed()
    assert "There is no picture in this book" in (again.message or ""), (
        "the one book that is left fails again"
    )
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        )
    assert runs[0].name == str(tmp_path / "in")


def test_a_disk_without_room_stops_the_backfill_after_the_first_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    from panelworks.books import binding

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    for number in range(3):
        write_book(tmp_path / "in" / f"{number}.cbz", 1, first_seed=number)
    monkeypatch.setattr(binding, "_write", full)
    state = backfill(str(tmp_path / "in"), str(tmp_path / "out"), here=True, return_state=True)
    assert state.is_failed()
    assert "no room left" in (state.message or "")
    assert list((tmp_path / "out").iterdir()) == []
    assert open_ledger(get_engine().settings).read()["error"].tolist() == ["disk_full"]
