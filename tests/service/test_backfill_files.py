"""Files that a backfill reads: names of any bytes in any locale, and files that cannot be read."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from panelworks.settings import Settings
from tests.books import page_file, write_book
from tests.service.test_backfill import ROOT, results

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
FOREIGN = [
    b"caf\xe9.cbz",
    b"\x93\xfa.cbz",
    b"two\nlines.cbz",
    b"\x1b[31m.cbz",
    b"A.cbz",
    b"a.cbz",
    b"x" * 251 + b".cbz",
]
WRITTEN = [
    "A.cbz",
    "_[31m.cbz",
    "a-2.cbz",
    "caf%E9.cbz",
    "fold%FF.cbz",
    "two_lines.cbz",
    "x" * 227 + ".cbz",
    "%93%FA.cbz",
]


def command(environment: dict[str, str], *arguments: str | Path | bytes) -> tuple[int, str]:
    """The command line in a process of its own: the locale is that of a process."""
    done = subprocess.run(
        [sys.executable, "-m", "panelworks", *arguments],
        cwd=ROOT, env=os.environ | environment, capture_output=True, check=False,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done.returncode, done.stdout.decode("utf-8")


@pytest.mark.parametrize("environment", [{}, C_LOCALE], ids=["default", "C"])
def test_names_of_any_bytes_do_not_stop_a_backfill_in_any_locale(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    data = write_book(tmp_path / "one.cbz", 1).read_bytes()
    shelf = os.fsencode(tmp_path) + b"/shelf"
    Path(os.fsdecode(shelf + b"/fold\xff")).mkdir(parents=True)
    for name in FOREIGN:
        Path(os.fsdecode(shelf + b"/" + name)).write_bytes(data)
    for number, name in enumerate((b"caf\xe9.png", b"two\n.png")):
        Path(os.fsdecode(shelf + b"/fold\xff/" + name)).write_bytes(page_file(number + 3))
    asked = ("backfill", shelf, "--out", tmp_path / "out", "--direct", "--model", "lanczos", "--json")
    code, output = command(environment, *asked, "--dry-run")
    assert (code, json.loads(output)["books"]) == (0, 8)
    code, output = command(environment, *asked)
    found = [json.loads(line) for line in output.splitlines()]
    assert (code, {result["status"] for result in found}) == (0, {"success"})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(WRITTEN)
    code, output = command(environment, *asked[:-1])
    assert (code, output.count("done before"), len(output.splitlines())) == (
        0,
        8,
        8 + output.count("kept as it was"),
    )
    page = shelf + b"/fold\xff/caf\xe9.png"
    code, output = command(
        environment, "enhance", page, "--out", os.fsencode(tmp_path) + b"/p\xe9", "--direct"
    )
    assert code == 0
    assert "caf%E9.png" in output


NAMES_OF_PAGES = """
import sys
from pathlib import Path
from panelworks.archives.opening import open_archive
from panelworks.settings import get_settings
for path in sys.argv[1:]:
    with open_archive(Path(path), get_settings()) as archive:
        print(ascii([member.name for member in archive.members]))
"""


def test_names_of_pages_do_not_depend_on_the_locale(assets: Path) -> None:
    """A process for each locale reads all archives."""
    books = [
        assets / "faults" / "names" / name for name in ("a.cb7", "b.cbt", "c.cbt", "d.cbz", "e-broken.cbz")
    ]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", NAMES_OF_PAGES, *books],
            cwd=ROOT, env=os.environ | environment, capture_output=True, check=True,
        ).stdout
        for environment in ({}, C_LOCALE, {"LC_ALL": "POSIX"})
    }  # fmt: skip
    (output,) = outputs
    assert [names.count(b"\\u8a71.jpg") for names in output.splitlines()] == [3] * len(books)


AS_ANY_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", "--")
"""Root reads every file by a capability that no other user has."""


def test_what_cannot_be_read_is_named_and_the_others_go_on(tmp_path: Path, settings: Settings) -> None:
    """Before, one page of mode 000 ended the whole backfill, and unreadable folders, links and pipes were not named."""
    shelf = tmp_path / "shelf"
    for number in (1, 2, 3):
        (shelf / "pages").mkdir(parents=True, exist_ok=True)
        (shelf / "pages" / f"{number}.png").write_bytes(page_file(number))
    os.mkfifo(shelf / "pages" / "4.png")
    write_book(shelf / "sound.cbz", 1)
    write_book(shelf / "locked.cbz", 1)
    write_book(shelf / "closed" / "book.cbz", 1)
    write_book(tmp_path / "elsewhere" / "book.cbz", 1)
    (shelf / "linked").symlink_to(tmp_path / "elsewhere")
    (shelf / "gone.cbz").symlink_to(tmp_path / "nothing.cbz")
    os.mkfifo(shelf / "pipe.cbz")
    for closed in (shelf / "closed", shelf / "locked.cbz", shelf / "pages" / "2.png"):
        closed.chmod(0)
    arguments = ("--model", "lanczos", "--longest-side", "300", "--json", "--direct")
    prefix = AS_ANY_USER if os.geteuid() == 0 else ()

    def backfill(*more: str) -> subprocess.CompletedProcess[str]:
        places = ("backfill", str(shelf), "--out", str(tmp_path / "out"))
        return subprocess.run(
            [*prefix, sys.executable, "-m", "panelworks", *places, *arguments, *more],
            cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    done, dry = backfill(), backfill("--dry-run")
    (shelf / "closed").chmod(0o755)  # so that pytest can remove it
    found = results(done.stdout)
    assert {name: result["status"] for name, result in found.items()} == {
        "pages": "incomplete", "sound.cbz": "success", "locked.cbz": "error",
    }  # fmt: skip
    assert [refusal["name"] for refusal in found["pages"]["refused"]] == ["4.png"]
    assert found["pages"]["states"]["unreadable"] == 1
    assert any(note.startswith("2.png") and "not_readable" in note for note in found["pages"]["notes"])
    for name, what in (
        ("closed", "not_readable"), ("linked", "symlink"), ("gone.cbz", "symlink"), ("pipe.cbz", "no_file"),
    ):  # fmt: skip
        assert re.search(rf"^{name}: skipped\. .* \[{what}\]$", done.stderr, re.MULTILINE), done.stderr
    assert (done.returncode, dry.returncode) == (1, 1)
    assert any(line.startswith("closed: ") for line in json.loads(dry.stdout)["unreadable"])
