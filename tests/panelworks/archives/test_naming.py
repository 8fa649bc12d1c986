import pytest
from hypothesis import given
from hypothesis import strategies as st

from panelworks.archives.naming import (
    decoded_names,
    in_natural_order,
    in_order,
    is_system_file,
    normalised,
    safe_everywhere,
    unique,
)
from panelworks.domain.books import Refusal


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/b.png", "a/b.png"),
        ("a\\b.png", "a/b.png"),
        ("./a//b.png", "a/b.png"),
        ("e\u0301.png", "é.png"),
        ("a:b*?.png", "a:b*?.png"),
        ("..hidden.png", "..hidden.png"),
        ("/001.png", "001.png"),
        ("//a/001.png", "a/001.png"),
        ("C:\\scans\\001.png", "scans/001.png"),
        ("c:/001.png", "001.png"),
        ("C:scans\\001.png", "scans/001.png"),
        ("\\\\server\\share\\a.png", "server/share/a.png"),
        ("...and then/1.png", "...and then/1.png"),
    ],
)
def test_names_are_brought_to_one_form(name: str, path: str) -> None:
    assert normalised(name) == path


@pytest.mark.parametrize(
    "name",
    [
        "../a.png",
        "/../a.png",
        "C:\\..\\a.png",
        "C:..\\a.png",
        "/",
        "C:/",
        "a/../../b.png",
        "..\\a.png",
        "",
        ".",
        "a\0b",
    ],
)
def test_names_that_lead_out_are_refused(name: str) -> None:
    refusal = normalised(name)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "unsafe_name"


@given(st.text())
def test_no_name_leads_out(name: str) -> None:
    path = normalised(name)
    if not isinstance(path, Refusal):
        assert path
        assert not path.startswith("/")
        assert ".." not in path.split("/")


@pytest.mark.parametrize(
    ("name", "system"),
    [
        ("__MACOSX/._1.png", True),
        ("book/.DS_Store", True),
        ("Thumbs.db", True),
        ("DESKTOP.INI", True),
        ("book/@eaDir/1.png", True),
        ("book/1.png", False),
        (".hack/1.png", False),
        ("...and then/1.png", False),
        (".1.png", False),
        ("a/.Trashes/1.png", True),
        (".Trash-1000/files/1.png", True),
        (".git/1.png", True),
        ("._1.png", True),
        ("a/.panelworks-host~1~2", True),
        ("thumbs.png", False),
    ],
)
def test_system_files(name: str, system: bool) -> None:
    assert is_system_file(name) is system


def test_natural_order() -> None:
    names = ["p10.png", "P2.png", "p1.png", "chapter 2/p1.png", "chapter 10/p1.png", "cover.jpg"]
    assert in_natural_order(names) == [
        "chapter 2/p1.png", "chapter 10/p1.png", "cover.jpg", "p1.png", "P2.png", "p10.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "encoding"),
    [
        (["第1話/漫画の表紙.png", "第1話/次のページへ.png"], "cp932"),
        (["漫画.png"], "utf-8"),
        (["plain.png"], "ascii"),
    ],
)
def test_names_that_state_no_encoding(names: list[str], encoding: str) -> None:
    assert decoded_names([name.encode(encoding) for name in names]).names == names


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("CON.png", "_CON.png"),
        ("a:b*?.png", "a_b__.png"),
        ("trailing. .png", "trailing.png"),
        ("com1.part.jpg", "_com1.part.jpg"),
        ("fine/Seite 1 (ä).png", "fine/Seite 1 (ä).png"),
        ("...png", "_.png"),
    ],
)
def test_names_that_every_system_takes(name: str, safe: str) -> None:
    assert safe_everywhere(name) == safe


@given(st.lists(st.text(alphabet="aAbB./-2", min_size=1), max_size=12))
def test_unique_names_differ_by_more_than_case(names: list[str]) -> None:
    found = unique(names)
    assert len({name.casefold() for name in found}) == len(names)


def test_names_are_numbered_only_where_they_sort_otherwise() -> None:
    assert in_order(["1.png", "2.png", "10.png"]) == ["1.png", "2.png", "10.png"]
    assert in_order(["images/b.jpg", "images/a.jpg"]) == ["1-b.jpg", "2-a.jpg"]
