"""Damage to each kind of stored file: the next run has the correct result, and the one after it is cached."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from panelworks.books.direct import enhance_book_directly
from panelworks.domain.books import BookRequest
from panelworks.domain.cards import CARDS
from panelworks.domain.request import JobKey, PageRequest
from panelworks.domain.result import PageResult
from panelworks.models.loading import PrecisionChecks
from panelworks.models.network import Tensor
from panelworks.models.openvino_network import OpenVinoNetwork
from panelworks.models.weight_files import read_arrays
from panelworks.models.weights import card_digest, installed_path, record_digest
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from tests.books import write_book
from tests.networks import random_rrdb
from tests.pages import write_page


def flip(path: Path) -> None:
    """Two bytes in the middle have another value; the size is the same."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle] ^= 0xFF
    data[middle + 1] ^= 0xFF
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


Damage = Callable[[Path], None]
DAMAGES = pytest.mark.parametrize("damage", [flip, truncate, empty])


def digests_of(result: PageResult) -> list[str]:
    """SHA-256 of everything that was delivered."""
    assert result.error is None, result.error
    assert result.master
    uris = [result.master.uri, *(variant.uri for variant in result.variants)]
    return [hashlib.sha256(Path(unquote(urlsplit(uri).path)).read_bytes()).hexdigest() for uri in uris]


def stored(settings: Settings, pattern: str) -> list[Path]:
    found = sorted(path for path in settings.cache_dir.glob(pattern) if path.is_file())
    assert found, pattern
    return found


@DAMAGES
@pytest.mark.parametrize("pattern", ["store/objects/*/*", "results.sqlite", "ledger/day=*/*", "store/jobs/*"])
def test_a_page_is_right_after_damage(
    pattern: str, damage: Damage, tmp_path: Path, settings: Settings
) -> None:
    page = write_page(tmp_path / "page.png")

    def run(name: str) -> PageResult:
        out = str(tmp_path / name)  # another place each time: existing objects are not copied again
        return enhance_directly(PageRequest(source=str(page), out=out, job_id=name), Engine(settings))

    first = run("one")
    for path in stored(settings, pattern):
        damage(path)
    Engine(settings).jobs.job(JobKey(None, "one"))
    second, third = run("two"), run("three")
    assert digests_of(second) == digests_of(first)
    assert digests_of(third) == digests_of(first)
    assert (first.route, second.route, third.route) == ("upscaled",) * 3
    assert third.cached, "the damage is repaired"
    ledger = Engine(settings).ledger.read()
    assert {"two", "three"} <= set(ledger["job_id"])


@DAMAGES
@pytest.mark.parametrize(
    "pattern", ["store/objects/*/*", "results.sqlite", "ledger/_books/*", "ledger/day=books/*"]
)
def test_a_book_is_right_after_damage(
    pattern: str, damage: Damage, tmp_path: Path, settings: Settings
) -> None:
    source = write_book(tmp_path / "book.cbz", 3)

    def run(name: str) -> bytes:
        out = tmp_path / name / "book.cbz"
        result = enhance_book_directly(BookRequest(source=str(source), out=str(out)), Engine(settings))
        assert (result.status, result.states) == ("success", {"enhanced": 3}), result
        return out.read_bytes()

    first = run("one")
    for path in stored(settings, pattern):
        damage(path)
    assert run("one") == first
    assert run("two") == first
    assert set(Engine(settings).ledger.read()["page_number"]) == {0, 1, 2}


def test_a_damaged_object_is_moved_aside_and_reported(
    tmp_path: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = engine.store.put(b"pixels" * 100, "image/png", (1, 1))
    path = Path(urlsplit(artifact.uri).path)
    flip(path)
    damaged = path.read_bytes()
    assert engine.store.read_named(artifact.sha256, "image/png") is None
    assert f"{path.name} is damaged: moved to damaged/" in caplog.text
    assert (engine.settings.cache_dir / "store" / "damaged" / path.name).read_bytes() == damaged
    assert not engine.store.has(artifact)
    assert engine.store.get(engine.store.put(b"pixels" * 100, "image/png", (1, 1))) == b"pixels" * 100


def test_a_delivered_file_of_the_wrong_size_is_delivered_again(tmp_path: Path, engine: Engine) -> None:
    page = write_page(tmp_path / "page.png")
    request = PageRequest(source=str(page), out=str(tmp_path / "out"), job_id="1")
    first = enhance_directly(request, engine)
    right = digests_of(first)
    assert first.master
    truncate(Path(unquote(urlsplit(first.master.uri).path)))
    assert digests_of(enhance_directly(request, engine)) == right


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b'{"q": "much"}', b'{"q": [1]}', b'{"q": 60'])
def test_damaged_precision_checks_run_again(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "precision.json"
    path.write_bytes(content)
    checks = PrecisionChecks(path)
    assert checks.passed("q") is None
    checks.store("q", 60)
    assert checks.passed("q")
    assert json.loads(path.read_text()) == {"q": 60.0}


@DAMAGES
def test_a_damaged_compiled_network_is_compiled_again(
    damage: Damage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrays = read_arrays(random_rrdb(tmp_path / "weights.pth"))
    tile = np.random.default_rng(1).random((1, 3, 32, 32), dtype=np.float32)

    def run() -> Tensor:
        return OpenVinoNetwork(arrays, precision="fp32", threads=1, cache=tmp_path / "openvino")(tile)

    first = run()
    (path,) = (tmp_path / "openvino").iterdir()
    whole = path.read_bytes()
    damage(path)
    for _ in range(2):
        assert np.array_equal(run(), first)
    assert caplog.text.count("is compiled again: it is damaged") == 1
    # OpenVINO names its nodes by a counter of the process, so that the length varies by some hundred bytes.
    assert len(path.read_bytes()) == pytest.approx(len(whole), rel=0.01)


@DAMAGES
def test_damaged_weights_are_not_used(damage: Damage, tmp_path: Path, settings: Settings) -> None:
    settings.weights_dir.mkdir(parents=True)
    path = random_rrdb(settings.weights_dir / "network.pth")
    card = CARDS["realesrgan_x4plus"].model_copy(update={"file": path.name, "sha256": card_digest(path)})
    assert installed_path(card, settings) == path
    damage(path)
    assert installed_path(card, settings) is None


@pytest.mark.parametrize("content", [b"", b"\xff", b"0123"])
def test_a_damaged_pin_is_taken_again(content: bytes, settings: Settings) -> None:
    settings.weights_dir.mkdir(parents=True)
    card = CARDS["aura-sr-v2-config"]
    file = settings.weights_dir / card.file
    file.write_bytes(b"{}")
    pin = file.with_name(f"{card.file}.sha256")
    pin.write_bytes(content)
    assert record_digest(card, settings) == pin.read_text() == card_digest(file)
