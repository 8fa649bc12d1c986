"""Legacy encodings of member names."""

import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from panelworks.archives.encodings import LEGACY_ENCODINGS, decide_encoding
from panelworks.archives.naming import decoded_names
from panelworks.archives.opening import open_archive
from panelworks.settings import Settings

NAMES = [
("cp932",["第1話/表紙.png","第1話/次のページへ.png"]),("cp932",["進撃の巨人 第01巻.jpg"]),("cp932",["漫画.png"]),("cp932",["ﾏﾝｶﾞ01.jpg","ﾏﾝｶﾞ02.jpg"]),("cp932",["ﾜﾝﾋﾟｰｽ/001.jpg"]),("cp932",["ドラゴンボール.jpg"]),("cp932",["鋼の錬金術師.jpg"]),("cp932",["表紙.jpg"]),
("gbk",["第01话.jpg","第02话.jpg"]),("gbk",["第01卷/001.jpg"]),("gbk",["封面.jpg"]),("gbk",["海贼王/第1话/01.jpg"]),("gbk",["火影忍者.jpg"]),("gbk",["进击的巨人/第3话.png"]),("gbk",["漫画.jpg"]),("gbk",["灌篮高手 彩页.jpg"]),
("big5",["第01話.jpg"]),("big5",["封面.jpg"]),("big5",["海賊王/第1集.jpg"]),("big5",["進擊的巨人.jpg"]),("big5",["灌籃高手.jpg"]),
("cp949",["표지.jpg"]),("cp949",["제1화.jpg","제2화.jpg"]),("cp949",["원피스/001.jpg"]),("cp949",["진격의 거인.jpg"]),("cp949",["슬램덩크 1권.jpg"]),("cp949",["만화.jpg"]),
("cp866",["Страница 01.jpg"]),("cp866",["Глава 1/стр01.jpg"]),("cp866",["обложка.jpg"]),("cp1251",["Страница 01.jpg"]),("cp1251",["обложка.jpg"]),("cp1251",["Глава.jpg"]),("koi8-r",["Страница 01.jpg"]),("koi8-r",["обложка.jpg"]),
("cp1250",["Příběh 1.jpg"]),("cp1250",["říše/strana.jpg"]),("cp1250",["okładka.jpg"]),("cp1250",["Żółty.jpg"]),("cp1250",["čarodějnice.jpg"]),("cp1250",["különös történet.jpg"]),("cp852",["Příběh 1.jpg"]),("cp852",["Žluťoučký kůň.jpg"]),("cp852",["Zażółć gęślą jaźń.jpg"]),
("cp1252",["Astérix.jpg"]),("cp1252",["Genève.jpg"]),("cp1252",["Größe.jpg"]),("cp1252",["año.jpg"]),("cp1252",["naïve.jpg"]),("cp1252",["Ångström.jpg"]),("cp1252",["páginas.jpg"]),("cp1252",["coração.jpg"]),
("cp850",["Astérix.jpg"]),("cp850",["Größe.jpg"]),("cp850",["Geneve été.jpg"]),("cp850",["São coração.jpg"]),("cp437",["Größe.jpg"]),("cp437",["Astérix.jpg"]),
]  # fmt: skip
"""Names as archives of comics have them, short ones as well."""


@pytest.mark.parametrize(("encoding", "names"), NAMES)
def test_short_names_are_read_as_they_were_meant(encoding: str, names: list[str]) -> None:
    assert decoded_names([name.encode(encoding) for name in names]).names == names


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp852", ["okładka.jpg", "świętość.jpg", "plain.jpg"]),
        ("cp850", ["Ø påske.jpg", "fløte.jpg", "år.jpg"]),
    ],
)
def test_all_names_decide_together(encoding: str, names: list[str]) -> None:
    raw = [name.encode(encoding) for name in names]
    assert decoded_names(raw[:1]).names != names[:1]
    assert decoded_names(raw[:1]).notes
    assert decoded_names(raw).names == names


def test_a_stated_encoding_wins_and_leaves_no_doubt() -> None:
    found = decoded_names(["okładka.jpg".encode("cp852")], "cp852")
    assert (found.names, found.notes) == (["okładka.jpg"], ())


@pytest.mark.parametrize(
    ("names", "foreign"),
    [
        (["第一話_表紙.png", "第一話_02.png", "ドラえもん.png"], "café.png".encode("latin-1")),
        (["Größe äü.png"], "第1話.png".encode("cp932")),
        (["Глава 1.png", "Глава 2.png"], "Глава 3.png".encode("cp1251")),
        (["plain.png"], "páginas.png".encode("latin-1")),
    ],
)
def test_one_name_in_another_encoding_leaves_the_others_as_they_are(names: list[str], foreign: bytes) -> None:
    """Before, one such name turned all others into characters of a legacy encoding, and changed their order."""
    for position in (0, len(names)):
        raw = [name.encode() for name in names]
        raw.insert(position, foreign)
        found = decoded_names(raw).names
        assert [name for index, name in enumerate(found) if index != position] == names


def test_names_on_a_disk_stand_for_themselves() -> None:
    names = ["café.png".encode(), "café.png".encode("latin-1")]
    assert decoded_names(names, one_by_one=True).names == ["café.png", "café.png"]
    assert decoded_names(names, "cp1252", one_by_one=True).names == ["café.png", "café.png"]


def test_plain_and_unicode_names_are_utf_8() -> None:
    assert decide_encoding([b"1.jpg", "é.jpg".encode()]).encoding == "utf-8"
    assert not decide_encoding([]).doubtful


def test_bytes_of_no_encoding_are_still_named() -> None:
    found = decoded_names([bytes(range(1, 256)).replace(b"/", b"")])
    assert found.notes
    assert len(found.names) == 1
    assert len(set(LEGACY_ENCODINGS)) == len(LEGACY_ENCODINGS)


def unicode_path(name: str, *, of: bytes = b"old name.png", version: int = 1) -> bytes:
    """An extra field that gives the member `of` this name."""
    content = struct.pack("<BI", version, zlib.crc32(of)) + name.encode()
    return struct.pack("<HH", 0x7075, len(content)) + content


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (unicode_path("第一話.png"), "第一話.png"),
        (b"\x01\x00\x01\x00x" + unicode_path("第一話.png"), "第一話.png"),
        (unicode_path("renamed.png", of=b"before.png"), "old name.png"),
        (unicode_path("第一話.png", version=2), "old name.png"),
        (b"\x75\x70\x03\x00\x01ab", "old name.png"),
    ],
)
def test_the_unicode_field_of_a_member_precedes_its_legacy_name(
    tmp_path: Path, settings: Settings, field: bytes, expected: str
) -> None:
    """Info-ZIP and WinZip write it beside a name in the code page of the machine."""
    with zipfile.ZipFile(tmp_path / "book.cbz", "w") as file:
        info = zipfile.ZipInfo("old name.png")
        info.extra = field
        file.writestr(info, b"page")
    with open_archive(tmp_path / "book.cbz", settings) as archive:
        assert [member.name for member in archive.members] == [expected]
