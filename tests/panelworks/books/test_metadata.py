from xml.etree.ElementTree import fromstring

import pytest

from panelworks.books.metadata import PageFigures, is_comic_info, updated

INFO = b"""<?xml version="1.0"?><ComicInfo><Title>Flug</Title><PageCount>2</PageCount><Notes>mine</Notes><Unknown a="1"/>
<Pages><Page Image="0" Type="FrontCover" ImageWidth="10" ImageHeight="20" ImageSize="5"/>
<Page Image="1" DoublePage="true" Bookmark="here"/></Pages></ComicInfo>"""


def test_figures_are_updated_and_the_rest_is_kept() -> None:
    data = updated(
        INFO, [[PageFigures(20, 40, 99)], [PageFigures(30, 60, 70), PageFigures(30, 61, 71)]], "2 of 2."
    ).data
    assert data is not None
    root = fromstring(data)  # noqa: S314 - written a line above
    assert root.findtext("Title") == "Flug"
    assert root.findtext("PageCount") == "3"
    assert (root.findtext("Notes") or "").startswith("mine\nPanelworks")
    assert root.find("Unknown") is not None
    first, second, third = (page.attrib for page in root.iter("Page"))
    assert first == {
        "Image": "0",
        "Type": "FrontCover",
        "ImageWidth": "20",
        "ImageHeight": "40",
        "ImageSize": "99",
    }
    assert (second["Image"], second["Bookmark"], second["ImageHeight"]) == ("1", "here", "60")
    assert (third["Image"], third["DoublePage"], third["ImageSize"]) == ("2", "true", "71")


def test_pages_are_listed_where_there_was_no_list() -> None:
    data = updated(b"<ComicInfo/>", [[PageFigures(None, None, 5)], []], "none").data
    assert data is not None
    assert b'<Page Image="0" ImageSize="5"/>' in data
    assert b"<PageCount>1</PageCount>" in data


@pytest.mark.parametrize(
    "data",
    [
        b"not xml",
        b"<Other/>",
        b"<ComicInfo><Title>cut off",
        b"<ComicInfo><Title>a</Titel><Series>b</Series>",
        b"<ComicInfo>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</ComicInfo>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><ComicInfo><Title>&b;</Title></ComicInfo>',
        b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><ComicInfo><Title>&f;</Title></ComicInfo>',
    ],
)
def test_what_is_none_or_hostile_is_not_touched(data: bytes) -> None:
    found = updated(data, [], "none")
    assert found.data is None
    assert "not updated" in found.notes[0]


BODY = "<Title>T\u00eft \u7b2c</Title><Series>S</Series><Pages><Page Image='0' Type='FrontCover'/></Pages>"
PLAIN = f"<ComicInfo>{BODY}</ComicInfo>"
WESTERN = PLAIN.replace("\u7b2c", "")


@pytest.mark.parametrize(
    ("data", "repair"),
    [
        (f"<ComicInfo xmlns='http://x/y'>{BODY}</ComicInfo>".encode(), None),
        (f"<ci:ComicInfo xmlns:ci='http://x/y'>{BODY.replace('<', '<ci:').replace('<ci:/', '</ci:')}</ci:ComicInfo>".encode(), None),
        (f"<ComicInfo xmlns:xsi='http://x/i' xsi:schema='a'>{BODY}</ComicInfo>".encode(), None),
        (f"<comicinfo>{BODY}</comicinfo>".encode(), None),
        (b"\xef\xbb\xbf\r\n" + f"<?xml version='1.0' encoding='utf-8'?>{PLAIN}".encode(), None),
        (f"\n\n<?xml version='1.0'?>\n{PLAIN}".encode(), None),
        (PLAIN.encode("utf-16"), None),
        (f"<?xml version='1.0' encoding='utf-16'?>{PLAIN}".encode("utf-16"), None),
        (f"<?xml version='1.0' encoding='utf-16'?>{PLAIN}".encode(), "utf-16"),
        (f"<?xml version='1.0' encoding='utf8mb4'?>{PLAIN}".encode(), "utf8mb4"),
        (f"<?xml version='1.0' encoding='utf-8'?>{WESTERN}".encode("cp1252"), "not utf-8"),
        (f"<?xml version='1.0' encoding='iso-8859-1'?>{WESTERN}".encode("latin-1"), None),
        (PLAIN.replace("S<", "S &amp; T & U&V<").encode(), "bare &"),
        (PLAIN.replace("S<", "S\x0b\x01&nbsp;&copy;<").encode(), "control characters"),
    ],
)  # fmt: skip
def test_variants_keep_their_tags_and_get_the_figures(data: bytes, repair: str | None) -> None:
    found = updated(data, [[PageFigures(20, 40, 99)]], "1 of 1.")
    assert found.data is not None, found.notes
    root = fromstring(found.data)  # noqa: S314 - written a line above
    texts = {child.tag.rpartition("}")[2]: child.text or "" for child in root}
    assert texts["Title"].startswith("T\u00eft ")
    assert texts["Series"].startswith("S")
    assert texts["PageCount"] == "1"
    (page,) = (one for one in root.iter() if one.tag.endswith("Page"))
    assert (page.attrib["Type"], page.attrib["ImageWidth"]) == ("FrontCover", "20")
    assert {child.tag.rpartition("}")[0] for child in root} == {root.tag.rpartition("}")[0]}
    assert ("".join(found.notes) and repair and repair in found.notes[0]) or repair is None


def test_it_is_known_by_its_name_in_any_folder() -> None:
    assert is_comic_info("book/comicinfo.XML")
    assert not is_comic_info("ComicInfo.xml.bak")
