"""The list of results, and the pictures of a page: filters, paging, owners, and rows that are added."""

import asyncio
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from panelworks.accounting.ledger import Ledger
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import PageResult
from panelworks.storage.local import LocalFolder
from service.gateway import result_index
from service.gateway.access import Keyring, hash_of
from service.gateway.result_index import ResultIndex, ResultQuery
from tests.books import page_file
from tests.service.gateway.conftest import Open


@dataclass(frozen=True)
class Pages:
    """A gateway without Prefect, on which the key `studio` had a page enhanced."""

    client: httpx.Client
    job_id: str

    def ask(self, path: str, key: str = "studio", **query: Any) -> httpx.Response:
        return self.client.get(path, headers={"X-API-Key": key}, params=query)


@pytest.fixture
def pages(gateway: Open, monkeypatch: pytest.MonkeyPatch) -> Pages:
    monkeypatch.setattr(result_index, "REFRESH_SECONDS", 0.0)
    keys = (f"studio:{hash_of('studio')}", f"reader:{hash_of('reader')}", f"root:{hash_of('root')}:admin")
    client = gateway(api_keys=keys)
    form = {"tool": "sora", "comic_id": "comic-1", "panel_id": "panel-9"}
    files = {"image": ("first page.png", page_file(1))}
    assert client.post("/api/pages", files=files, data=form, headers={"X-API-Key": "studio"}).is_success
    (row,) = client.get("/api/results", headers={"X-API-Key": "studio"}).json()["results"]
    return Pages(client, row["job_id"])


def test_a_result_has_what_the_ledger_knows(pages: Pages) -> None:
    answer = pages.ask("/api/results").json()
    (row,) = answer["results"]
    assert (answer["total"], answer["complete"]) == (1, True)
    assert (row["tool"], row["comic_id"], row["panel_id"], row["owner"]) == (
        "sora",
        "comic-1",
        "panel-9",
        "studio",
    )
    assert (row["status"], row["book"]) == ("success", None)
    assert 0 < row["score_before"] <= 1
    assert answer["facets"] == {
        "tools": {"sora": 1},
        "comics": {"comic-1": 1},
        "books": {},
        "routes": {row["route"]: 1},
        "reviews": {},
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"tool": "sora"}, 1), ({"tool": "dall-e"}, 0), ({"comic": "comic-1"}, 1), ({"status": "error"}, 0),
        ({"text": "FIRST"}, 1), ({"text": "panel-9"}, 1), ({"text": "nothing"}, 0), ({"min_score": 0.01}, 1),
        ({"max_score": 0.01}, 0), ({"book": "x.cbz"}, 0), ({"route": "couldn't_upscale"}, 0),
    ],
)  # fmt: skip
def test_results_are_filtered(query: dict[str, Any], found: int, pages: Pages) -> None:
    assert pages.ask("/api/results", **query).json()["total"] == found


@pytest.mark.parametrize(
    "query", [{"unknown": 1}, {"limit": 0}, {"limit": 201}, {"min_score": 2}, {"status": "x"}]
)
def test_a_wrong_query_is_refused(query: dict[str, Any], pages: Pages) -> None:
    assert pages.ask("/api/results", **query).status_code == 422


def test_results_and_pictures_are_for_their_key_and_for_admins(pages: Pages) -> None:
    places = [
        f"/api/results/{pages.job_id}/{rest}"
        for rest in ("thumbnail", "tiles/master/0/0/0", "tiles/source/0/0/0")
    ]
    assert [pages.ask("/api/results", key).json()["total"] for key in ("studio", "reader", "root")] == [
        1,
        0,
        1,
    ]
    for place in places:
        statuses = [pages.ask(place, key).status_code for key in ("studio", "reader", "root")]
        assert statuses == [200, 404, 200], place
        with Image.open(io.BytesIO(pages.ask(place).content)) as image:
            assert image.format == "WEBP"
    assert pages.client.get("/api/results").status_code == 401


def test_a_browser_reads_with_its_session_and_changes_nothing(pages: Pages) -> None:
    session = Keyring((f"studio:{hash_of('studio')}",)).open_session("studio")
    cookies = {"Cookie": f"panelworks_session={session}"}
    assert pages.client.get("/api/results", headers=cookies).json()["total"] == 1
    again = pages.client.post(f"/api/enhancement/{pages.job_id}/re-enhance", json={}, headers=cookies)
    assert again.status_code == 401, "another site could send a form with the cookie"


def test_rows_are_added_replaced_and_paged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_index, "REFRESH_SECONDS", 0.0)
    ledger = Ledger(LocalFolder(tmp_path))
    index = ResultIndex(ledger)

    async def change() -> None:
        assert (await index.find(ResultQuery(), None)).total == 0
        for number in range(7):
            _append(ledger, f"job-{number}", "error")
        found = await index.find(ResultQuery(limit=3, offset=3), None)
        assert [row.job_id for row in found.results] == ["job-3", "job-2", "job-1"]
        _append(ledger, "job-2", "success")
        found = await index.find(ResultQuery(limit=1), None)
        assert [(row.job_id, row.status) for row in found.results] == [("job-2", "success")]
        assert found.total == 7, "a job that is repeated replaces its row"

    asyncio.run(change())


def test_requests_at_the_same_time_share_one_reading(tmp_path: Path) -> None:
    ledger = Ledger(LocalFolder(tmp_path))
    _append(ledger, "job", "success")
    index = ResultIndex(ledger)

    async def ask() -> list[int]:
        return [
            found.total
            for found in await asyncio.gather(*(index.find(ResultQuery(), None) for _ in range(9)))
        ]

    assert asyncio.run(ask()) == [1] * 9


@pytest.mark.parametrize(
    ("failed", "delivered", "is_listed"),
    [
        ("s3://b/1.png", "s3://b/1.png", False),
        ("s3://b/1.png", "s3://b/2.png", True),
        ("https://example.org/page?id=1", "https://example.org/page?id=2", True),
        ("data:,x", "data:,y", True),
    ],
)
def test_a_failed_page_is_listed_until_it_is_delivered(
    tmp_path: Path, failed: str, delivered: str, is_listed: bool
) -> None:
    ledger = Ledger(LocalFolder(tmp_path))
    _append(ledger, "first", "error", failed)
    _append(ledger, "second", "success", delivered)
    rows, complete = asyncio.run(ResultIndex(ledger).find_unresolved(None, 10))
    assert ([row.job_id for row in rows], complete) == (["first"] if is_listed else [], True)


def _append(ledger: Ledger, job_id: str, status: Any, source: str | None = None) -> None:
    source = source or f"/{job_id}.png"
    request = PageRequest(source=source, out="/out", job_id=job_id, origin=Origin(tool="test"))
    ledger.append(request, PageResult(job_id=job_id, status=status))
