from xml.etree.ElementTree import fromstring

import pytest

from panelworks.books.comic_info import PageFigures, is_comic_info, updated

INFO = b"""<?xml version="1.0"?><ComicInfo><Title>Flug</Title><PageCount>2</PageCount><Notes>mine</Notes><Unknown a="1"/>
<Pages><Page Image="0" Type="FrontCover" ImageWidth="10" ImageHeight="20" ImageSize="5"/>
<Page Image="1" DoublePage="true" Bookmark="here"/></Pages></ComicInfo>"""


def test_figures_are_updated_and_the_rest_is_kept() -> None:
    data = updated(
        INFO, [[PageFigures(20, 40, 99)], [PageFigures(30, 60, 70), PageFigures(30, 61, 71)]], "2 of 2."
    )
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
    data = updated(b"<ComicInfo/>", [[PageFigures(None, None, 5)], []], "none")
    assert data is not None
    assert b'<Page Image="0" ImageSize="5" />' in data
    assert b"<PageCount>1</PageCount>" in data


@pytest.mark.parametrize(
    "data",
    [
        b"not xml",
        b"<Other/>",
        b'<?xml version="1.0" encoding="utf8mb4"?><ComicInfo/>',
        b"<ComicInfo>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</ComicInfo>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><ComicInfo><Title>&b;</Title></ComicInfo>',
        b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><ComicInfo><Title>&f;</Title></ComicInfo>',
    ],
)
def test_what_is_none_or_hostile_is_not_touched(data: bytes) -> None:
    assert updated(data, [], "none") is None


def test_it_is_known_by_its_name_in_any_folder() -> None:
    assert is_comic_info("book/comicinfo.XML")
    assert not is_comic_info("ComicInfo.xml.bak")
