"""Purges: what is replaced is reported, signed and in batches; a failure fails nothing and stays recorded."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from panelworks.books.direct import enhance_book_directly
from panelworks.domain.books import BookRequest
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import JobKey, PageRequest
from panelworks.domain.result import PageResult
from panelworks.errors import Misconfigured, Transient
from panelworks.page import purging
from panelworks.page.callbacks import SIGNATURE, verify
from panelworks.page.decisions import Decision
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.page.purging import PurgeRecord, Purges, invalidate
from panelworks.page.review import Reviews
from panelworks.settings import Settings
from panelworks.storage.folder import open_folder
from tests.books import write_book
from tests.pages import write_page
from tests.servers import QuietHandler, serving

SECRET = "s" * 32


class Cdn:
    """A receiver of purges, and its address."""

    def __init__(self) -> None:
        self.statuses = [204]
        self.bodies: list[dict[str, Any]] = []
        self.signatures: list[tuple[bytes, str]] = []
        self.address = ""

    @property
    def purged(self) -> list[str]:
        """The addresses of all reports with success."""
        return sorted(url for body in self.bodies for url in body["urls"])


@pytest.fixture
def cdn() -> Iterator[Cdn]:
    state = Cdn()

    class Receiver(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = state.statuses[0] if len(state.statuses) == 1 else state.statuses.pop(0)
            state.signatures.append((body, self.headers[SIGNATURE]))
            if status < 300:
                state.bodies.append(json.loads(body))
            self.send_response(status)
            self.end_headers()

    with serving(Receiver) as address:
        state.address = address
        yield state


@pytest.fixture
def engine(settings: Settings, cdn: Cdn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(purging, "RETRY_SECONDS", (0.0, 0.0))
    chosen = {
        "out": str(tmp_path / "out"), "public_url": "https://cdn.example", "purge_url": cdn.address,
        "callback_secret": SECRET,
    }  # fmt: skip
    return Engine(Settings.model_validate({**settings.model_dump(), **chosen}))


def enhance(engine: Engine, folder: Path, **more: Any) -> PageResult:
    page = write_page(folder / "page.png")
    review = more.pop("review", "never")
    request = PageRequest(
        source=str(page),
        out=engine.settings.default_out,
        job_id="job",
        options=EnhanceOptions(review=review),
        **more,
    )
    result = enhance_directly(request, engine)
    assert result.status == "success", result.error
    engine.purges.join()
    return result


def addresses_of(result: PageResult) -> list[str]:
    found = [one.url for one in (result.master, *result.variants) if one is not None]
    assert all(found)
    return sorted(str(one) for one in found)


def pending(engine: Engine) -> list[str]:
    folder = open_folder(engine.settings.store_location, engine.settings)
    return [file.name for file in folder.files("purges/")]


def test_only_a_forced_page_is_purged(engine: Engine, cdn: Cdn, tmp_path: Path) -> None:
    first = enhance(engine, tmp_path)
    assert enhance(engine, tmp_path).cached
    assert cdn.bodies == [], "new objects, and equal ones, are in no cache"
    forced = enhance(engine, tmp_path, force=True)
    assert cdn.purged == addresses_of(first) == addresses_of(forced)
    (body,) = cdn.bodies
    assert body["event"] == "comic.delivery.replaced"
    assert sorted(body["paths"]) == sorted(url.removeprefix("https://cdn.example") for url in cdn.purged)
    data, signature = cdn.signatures[0]
    assert verify(data, SECRET, signature, now=time.time())
    assert not verify(data + b" ", SECRET, signature, now=time.time())
    assert pending(engine) == []


def test_an_approved_page_is_purged(engine: Engine, cdn: Cdn, tmp_path: Path) -> None:
    waiting = enhance(engine, tmp_path, review="always")
    enhance(engine, tmp_path, review="always", force=True)
    assert [one.url for one in (waiting.master, *waiting.variants) if one] == [None] * 3
    assert cdn.bodies == [], "no cache may store what waits"
    record = Reviews(engine).decide(JobKey(None, "job"), Decision(state="approved", by="editor"))
    engine.purges.join()
    assert record.result.preview
    assert cdn.purged == sorted([*addresses_of(record.result), str(record.result.preview.url)])


def test_a_rejected_page_is_not_purged(engine: Engine, cdn: Cdn, tmp_path: Path) -> None:
    enhance(engine, tmp_path, review="always")
    Reviews(engine).decide(
        JobKey(None, "job"), Decision(state="rejected", by="editor", publish_original=False)
    )
    engine.purges.join()
    assert cdn.bodies == []


def test_a_failure_fails_no_page_and_is_reported_later(engine: Engine, cdn: Cdn, tmp_path: Path) -> None:
    cdn.statuses = [500]
    enhance(engine, tmp_path)
    enhance(engine, tmp_path, force=True)
    enhance(engine, tmp_path, force=True)
    assert len(pending(engine)) == 2
    cdn.statuses = [204]
    assert Purges(
        open_folder(engine.settings.store_location, engine.settings), engine.settings
    ).report_pending()
    assert pending(engine) == []
    (body,) = cdn.bodies
    assert len(body["urls"]) == 3, "one report for both, with each address once"


def test_a_busy_receiver_is_asked_again(engine: Engine, cdn: Cdn, tmp_path: Path) -> None:
    cdn.statuses = [503, 429, 204]
    enhance(engine, tmp_path)
    enhance(engine, tmp_path, force=True)
    assert (len(cdn.signatures), len(cdn.bodies), pending(engine)) == (3, 1, [])


def test_a_refused_purge_is_kept_for_a_person(engine: Engine, cdn: Cdn, tmp_path: Path) -> None:
    cdn.statuses = [400]
    enhance(engine, tmp_path)
    enhance(engine, tmp_path, force=True)
    (name,) = pending(engine)
    assert name.startswith("purges/failed/")


def test_without_a_secret_nothing_is_sent(engine: Engine, cdn: Cdn) -> None:
    settings = engine.settings.model_copy(update={"callback_secret": None})
    purges = Purges(open_folder(settings.store_location, settings), settings)
    purges.request(["s3://pages/a.png"])
    purges.join()
    assert cdn.signatures == []
    assert len(pending(engine)) == 1


@pytest.mark.parametrize("data", [b"", b"{", b'{"objects": 1}'])
def test_a_damaged_record_does_not_stop_others(data: bytes, engine: Engine, cdn: Cdn) -> None:
    folder = open_folder(engine.settings.store_location, engine.settings)
    folder.write("purges/pending/0.json", data, "application/json")
    engine.purges.request([f"file://{engine.settings.default_out}/upscaled/a.png"])
    engine.purges.join()
    assert cdn.purged == ["https://cdn.example/upscaled/a.png"]
    assert pending(engine) == ["purges/failed/0.json"]


def test_a_replaced_book_is_purged(engine: Engine, cdn: Cdn, tmp_path: Path) -> None:
    source, out = write_book(tmp_path / "saga #1.cbz", 1), tmp_path / "out" / "books" / "saga #1.cbz"
    purges: list[str] = []
    for seed in (1, 2):
        write_book(source, 1, first_seed=seed)
        result = enhance_book_directly(BookRequest(source=str(source), out=str(out), force=True), engine)
        assert (result.status, result.url) == ("success", "https://cdn.example/books/saga%20%231.cbz")
        engine.purges.join()
        purges.append(str(cdn.purged))
    assert purges == ["[]", "['https://cdn.example/books/saga%20%231.cbz']"]


@pytest.fixture
def distribution(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a CloudFront distribution (moto)."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFRONT", s3_endpoint)
    origin = {
        "Id": "o",
        "DomainName": "pages.s3.amazonaws.com",
        "S3OriginConfig": {"OriginAccessIdentity": ""},
    }
    behaviour = {
        "TargetOriginId": "o", "ViewerProtocolPolicy": "redirect-to-https", "MinTTL": 0,
        "ForwardedValues": {"QueryString": False, "Cookies": {"Forward": "none"}},
    }  # fmt: skip
    config = {
        "CallerReference": str(time.monotonic_ns()), "Comment": "", "Enabled": True,
        "Origins": {"Quantity": 1, "Items": [origin]}, "DefaultCacheBehavior": behaviour,
    }  # fmt: skip
    made = boto3.client("cloudfront").create_distribution(DistributionConfig=config)
    return str(made["Distribution"]["Id"])


def invalidated(distribution: str) -> list[list[str]]:
    """The paths of each invalidation."""
    client = boto3.client("cloudfront")
    found = client.list_invalidations(DistributionId=distribution)["InvalidationList"].get("Items", [])
    batches = (
        client.get_invalidation(DistributionId=distribution, Id=one["Id"])["Invalidation"] for one in found
    )
    return [sorted(batch["InvalidationBatch"]["Paths"]["Items"]) for batch in batches]


def test_cloudfront_invalidates_what_is_replaced(engine: Engine, distribution: str, tmp_path: Path) -> None:
    change = {"purge_url": None, "cloudfront_distribution": distribution}
    chosen = Engine(engine.settings.model_copy(update=change))
    result = enhance(chosen, tmp_path)
    assert invalidated(distribution) == []
    enhance(chosen, tmp_path, force=True)
    paths = sorted(url.removeprefix("https://cdn.example") for url in addresses_of(result))
    assert invalidated(distribution) == [paths]
    assert pending(chosen) == []


def test_many_changes_are_batched(engine: Engine, distribution: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "MAX_PATHS", 30)
    settings = engine.settings.model_copy(
        update={"purge_url": None, "cloudfront_distribution": distribution, "public_url": None}
    )
    folder = open_folder(settings.store_location, settings)
    for index in range(40):
        objects = (purging.replaced_object(f"s3://pages/web/{index}.png", settings),)
        record = PurgeRecord(recorded_at=datetime.now(UTC), objects=objects)
        folder.write(f"purges/pending/{index:03}.json", record.model_dump_json().encode(), "application/json")
    assert Purges(folder, settings).report_pending()
    assert sorted(len(paths) for paths in invalidated(distribution)) == [10, 30]
    assert any("/web/7.png" in paths for paths in invalidated(distribution))


@pytest.mark.parametrize(("endpoint", "error"), [("moto", Misconfigured), ("http://127.0.0.1:9", Transient)])
def test_cloudfront_that_refuses_or_is_unavailable(
    endpoint: str,
    error: type[Exception],
    distribution: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if endpoint != "moto":
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFRONT", endpoint)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(error):
        invalidate("E_UNKNOWN", ["/a"], "once", settings)
