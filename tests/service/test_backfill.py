"""`panelworks backfill` and `panelworks report`, as a user calls them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import libarchive
import pytest

from panelworks.cli.app import main
from panelworks.settings import get_settings
from tests.books import names_in, write_book
from tests.panelworks.archives.test_pdf import write_costly_pdf

ROOT = Path(__file__).parents[2]
BAD: dict[str, tuple[int, dict[str, int] | str, set[str]]] = {
    "komga_7zip.cb7": (1, {"enhanced": 1}, set()),
    "komga_rar4.cbr": (3, {"enhanced": 3}, set()),
    "komga_rar5.cbr": (1, {"enhanced": 1}, set()),
    "komga_zip-encrypted.cbz": (0, "encrypted_archive", set()),
    "rar_named.cbz": (1, {"enhanced": 1}, set()),
    "zip_bad_crc.cbz": (2, {"enhanced": 1, "unreadable": 1}, set()),
    "zip_bomb_400MB.cbz": (2, {"enhanced": 1, "unreadable": 1}, set()),
    "zip_case_clash.cbz": (3, {"enhanced": 3}, set()),
    "zip_lzma.cbz": (1, {"enhanced": 1}, set()),
    "zip_no_images.cbz": (0, "no_pages", set()),
    "zip_one_bad_page.cbz": (3, {"enhanced": 2, "failed": 1}, set()),
    "zip_slip.cbz": (3, {"enhanced": 3}, {"unsafe_name"}),
    "zip_windows_names.cbz": (3, {"enhanced": 3}, set()),
}
"""Pages, how they end or why the book is refused, and the codes of members that are skipped."""


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def results(output: str) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    return {Path(result["source"]).name: result for result in found}


def test_every_hostile_archive_ends_well(
    assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf, out = tmp_path / "shelf", tmp_path / "out"
    shelf.mkdir()
    listed = {path.name for path in (assets / "badinputs").glob("*.cb*")}
    assert listed == set(BAD)
    for name in BAD:
        (shelf / name).symlink_to(assets / "badinputs" / name)
    code, output, _ = call(capsys, "backfill", shelf, "--out", out, "--json", "--direct")
    assert code == 1
    found = results(output)
    for name, (pages, ending, refused) in BAD.items():
        result = found[name]
        if isinstance(ending, str):
            assert result["error"]["code"] == ending, name
            assert result["error"]["message"].endswith("."), name
            assert not Path(result["out"]).exists(), name
            continue
        status = "incomplete" if refused or "unreadable" in ending else "success"
        assert (result["status"], result["pages"], result["states"]) == (status, pages, ending), name
        assert {one["code"] for one in result["refused"]} == refused, name
        assert len(result["notes"]) == sum(count for state, count in ending.items() if state != "enhanced"), (
            name
        )
        written = [entry for entry in names_in(Path(result["out"])) if entry != "panelworks.json"]
        assert len(written) == pages - ending.get("unreadable", 0), name
        assert len({entry.casefold() for entry in written}) == len(written), name
    assert {path.name for path in tmp_path.iterdir()} <= {"shelf", "out", "cache"}


def test_a_book_that_stops_its_parser_is_retried_last_and_then_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, it failed at once: a parser that ended for want of memory beside a large book had no second try."""
    monkeypatch.setenv("PANELWORKS_PARSER_MEMORY_BYTES", "400000000")
    write_costly_pdf(tmp_path / "shelf" / "a.pdf")
    write_book(tmp_path / "shelf" / "b.cbz", 1)
    options = ("--model", "lanczos", "--longest-side", "300")
    code, output, errors = call(
        capsys, "backfill", tmp_path / "shelf", "--out", tmp_path / "out", "--json", "--direct", *options
    )
    found = results(output)
    assert code == 1
    assert list(found) == ["b.cbz", "a.pdf"]
    assert found["b.cbz"]["status"] == "success"
    assert found["a.pdf"]["status"] == "error"
    assert found["a.pdf"]["error"]["code"] in ("no_readable_page", "document_too_costly", "parser_crashed")
    assert errors.count("a.pdf is retried last: ") == 1


def test_real_books_come_through_page_by_page(
    assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf = assets / "pages"
    for name in (
        "pepper_e01.cbz",
        "science_comics_1946_part1.cbz",
        "stump_mixed_formats.cbz",
        "stump_nested_macos.cbz",
    ):
        (tmp_path / "shelf").mkdir(exist_ok=True)
        (tmp_path / "shelf" / name).symlink_to(shelf / name)
    options = ("--model", "lanczos", "--longest-side", "900")
    code, output, _ = call(
        capsys, "backfill", tmp_path / "shelf", "--out", tmp_path / "out", "--json", "--direct", *options
    )
    assert code == 0
    for name, result in results(output).items():
        with zipfile.ZipFile(shelf / name) as source:
            before = [
                Path(entry).stem
                for entry in source.namelist()
                if "__MACOSX" not in entry and not entry.endswith(("/", ".DS_Store", ".xml"))
            ]
        done = subprocess.run(["unzip", "-tq", result["out"]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        with libarchive.file_reader(result["out"]) as reader:
            sizes = {entry.pathname: sum(map(len, entry.get_blocks())) for entry in reader}
        assert list(sizes) == names_in(Path(result["out"]))
        assert all(sizes.values())
        after = [
            Path(entry).stem
            for entry in names_in(Path(result["out"]))
            if not entry.endswith((".json", ".xml"))
        ]
        assert after == sorted(before), name


def test_what_would_be_done_is_said_and_not_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_book(tmp_path / "shelf" / "a.cbz", 2)
    write_book(tmp_path / "shelf" / "b.cbz", 3, first_seed=7)
    (tmp_path / "shelf" / "c.cbr").write_bytes(b"no archive")
    arguments = ("backfill", tmp_path / "shelf", "--out", tmp_path / "out", "--direct")
    code, output, _ = call(capsys, *arguments, "--dry-run")
    assert code == 1
    assert "3 books to process (5 pages" in output
    assert "c.cbr: This is a text file, not a supported archive" in output
    assert not (tmp_path / "out").exists()
    assert call(capsys, *arguments)[0] == 1
    code, output, _ = call(capsys, *arguments, "--dry-run", "--json", "--force")
    expectation = json.loads(output)
    assert (expectation["books"], expectation["done"], expectation["pages"]) == (3, 0, 5)
    assert expectation["seconds"] > 0
    assert expectation["bytes_out"] > expectation["bytes"]
    code, output, _ = call(capsys, *arguments, "--dry-run")
    assert "1 books to process (0 pages" in output
    assert "2 already done" in output


def test_after_the_window_no_book_is_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_book(tmp_path / "shelf" / "a.cbz", 1)
    arguments = ("backfill", tmp_path / "shelf", "--out", tmp_path / "out", "--direct")
    assert call(capsys, *arguments, "--until", "noon")[0] == 2
    assert call(capsys, *arguments, "--until", "23:59")[0] == 0


@pytest.mark.parametrize(
    ("archive", "out", "sentence"),
    [("nowhere", "out", "no folder and no book"), (".", ".", "folder of their own")],
)
def test_wrong_usage_is_a_sentence(
    archive: str, out: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, stderr = call(capsys, "backfill", tmp_path / archive, "--out", tmp_path / out, "--direct")
    assert code in (1, 2)
    assert sentence in stderr
    assert "Traceback" not in stderr


def test_ctrl_c_loses_nothing(tmp_path: Path) -> None:
    books = 5
    for number in range(books):
        write_book(tmp_path / "shelf" / f"{number}.cbz", 8, first_seed=20 * number)
    command = [sys.executable, "-m", "panelworks", "backfill", str(tmp_path / "shelf"), "--direct"]
    command += ["--out", str(tmp_path / "out")]
    environment = dict(os.environ)
    listening = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # what runs in the background ignores it
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=listening
    ) as process:
        while len(list((tmp_path / "out").glob("*.cbz"))) < 2:
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command to continue" in stderr
    assert "Traceback" not in stderr
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "done before" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{number}.cbz" for number in range(books)
    ]


def test_the_report_shows_what_the_ledger_knows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANELWORKS_GPU_PRICE_PER_HOUR", "0.5")
    get_settings.cache_clear()
    page = tmp_path / "report.html"
    code, _, stderr = call(capsys, "report", "--out", page)
    assert (code, "has no books yet" in stderr) == (1, True)
    write_book(tmp_path / "shelf" / "a.cbz", 3)
    (tmp_path / "shelf" / "b.cbz").write_bytes(b"no archive")
    call(capsys, "backfill", tmp_path / "shelf", "--out", tmp_path / "out", "--direct")
    code, output, _ = call(capsys, "report", "--out", page, "--last", "--json")
    assert code == 0
    figures = json.loads(output)
    assert (figures["books"], figures["books_failed"], figures["pages"]) == (2, 1, 3)
    assert figures["routes"] == {"upscaled": 3}
    assert sum(figures["scores_after"]) == 3
    assert figures["cost"] == pytest.approx(figures["device_seconds"] / 7200, abs=1e-4)
    assert [stage["stage"] for stage in figures["stages"]][-1] == "total"
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 6
    captions = re.findall(r"<figcaption title=.*?</figcaption>", html)
    assert len(captions) == 6
    for caption in captions:
        assert re.findall(r'<span class="name">([^<]+)</span>', caption)[0] == "a.cbz"
    assert re.search(r"\.name \{[^}]*overflow-wrap: anywhere", html), "long names wrap instead of overlapping"
    assert "unsupported_archive" in html


def shelf_of(folder: Path, books: int) -> Path:
    for number in range(books):
        write_book(folder / "shelf" / f"book {number}.cbz", 1, first_seed=number)
    return folder / "shelf"


def test_a_budget_ends_a_backfill_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANELWORKS_GPU_PRICE_PER_HOUR", "3600")  # a dollar a second
    monkeypatch.setattr("panelworks.accounting.budget._READ_INTERVAL_SECONDS", 0.0)
    command = ("backfill", shelf_of(tmp_path, 3), "--out", tmp_path / "out", "--direct", "--budget")
    code, _, stderr = call(capsys, *command, "0.01")
    assert code == 0
    assert "No further book starts: " in stderr and "of the budget of 0.01 are spent." in stderr
    assert "3 books: 1 done now, 0 before, 0 failed, 2 left" in stderr
    code, forecast, _ = call(capsys, *command, "0.01", "--dry-run")
    assert code == 0 and "This exceeds the budget of 0.01 USD." in forecast
    code, _, stderr = call(capsys, *command, "1000")
    assert code == 0 and "3 books: 2 done now, 1 before, 0 failed, 0 left" in stderr


def test_a_spent_day_is_waited_for_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANELWORKS_GPU_PRICE_PER_HOUR", "3600")
    monkeypatch.setenv("PANELWORKS_BUDGET_PER_DAY", "0.01")
    monkeypatch.setattr("panelworks.accounting.budget._READ_INTERVAL_SECONDS", 0.0)

    def ctrl_c(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("panelworks.cli.backfill.time.sleep", ctrl_c)
    code, _, stderr = call(capsys, "backfill", shelf_of(tmp_path, 2), "--out", tmp_path / "out", "--direct")
    assert code == 130
    assert "of the daily budget of 0.01 are spent today: paused until 00:00 UTC" in stderr.replace("\n", " ")
    assert "Stopped after 1 of 2 books." in stderr


def test_a_budget_without_a_price_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("backfill", shelf_of(tmp_path, 1), "--out", tmp_path / "out", "--direct", "--budget", "5")
    code, _, stderr = call(capsys, *command)
    assert code == 2 and "A budget needs a price" in stderr
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_found_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    shelf, out = shelf_of(tmp_path, 1), tmp_path / "file" / "out"
    code, _, message = call(capsys, "backfill", shelf, "--out", out, "--direct")
    assert code == 2 and f"{tmp_path / 'file'} is a file" in message
    code, output, _ = call(capsys, "backfill", shelf, "--out", out, "--direct", "--dry-run")
    assert code == 1 and f"{tmp_path / 'file'} is a file" in output
    assert not (tmp_path / "cache" / "store").exists(), "no page was read"


def test_a_dry_run_learns_from_single_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shelf = shelf_of(tmp_path, 2)
    forecast = ("backfill", shelf, "--out", tmp_path / "out", "--direct", "--dry-run")
    assert "unknown until the first page or book" in call(capsys, *forecast)[1]
    with zipfile.ZipFile(shelf / "book 0.cbz") as book:
        page = book.extract(next(name for name in book.namelist() if name.endswith(".png")), tmp_path)
    assert call(capsys, "enhance", page, "--out", tmp_path / "pages", "--direct")[0] == 0
    code, output, _ = call(capsys, *forecast, "--json")
    expectation = json.loads(output)
    assert code == 0 and expectation["seconds"] > 0
    assert expectation["bytes_out"] is None, "a single page's result is lossless"


def test_progress_is_printed_where_no_terminal_shows_a_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("panelworks.cli.backfill._PROGRESS_INTERVAL_SECONDS", 0.0)
    write_book(tmp_path / "shelf" / "a.cbz", 3)
    code, output, progress = call(
        capsys, "backfill", tmp_path / "shelf", "--out", tmp_path / "out", "--direct", "--json"
    )
    assert code == 0 and len(output.splitlines()) == 1, "results alone on standard output"
    assert "book 1 of 1, a.cbz: started" in progress
    assert "book 1 of 1, a.cbz: page 1 of 3, about 00:00:0" in progress


def test_a_backfill_takes_the_options_of_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shelf, out = shelf_of(tmp_path, 1), tmp_path / "out"
    options = ("--fix-artifacts", "on", "--colour", "0.3", "--descreen", "off")
    code, _, _ = call(capsys, "backfill", shelf, "--out", out, "--direct", *options)
    assert code == 0
    with zipfile.ZipFile(out / "book 0.cbz") as book:
        record = json.loads(book.read("panelworks.json"))
    assert record["options"]["page"] == {"fix_artifacts": "on", "colour": 0.3}
    actions = {step["action"] for page in record["pages"] for step in page["steps"]}
    assert "colour" in actions
    with pytest.raises(SystemExit) as refused:
        main(["backfill", str(shelf), "--out", str(out), "--denoise", "2"])
    assert refused.value.code == 2


def test_enhance_names_the_command_for_books(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = write_book(tmp_path / "a.cbz", 1)
    code, output, _ = call(capsys, "enhance", book, tmp_path, "--out", tmp_path / "out", "--direct")
    assert (code, output.count("panelworks backfill")) == (1, 2)
