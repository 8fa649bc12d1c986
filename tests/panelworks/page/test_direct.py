"""The pipeline in direct mode, on small pages."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panelworks import EnhanceOptions, PageResult, enhance_picture
from panelworks.accounting.ledger import open_ledger
from panelworks.domain.cards import BUNDLED
from panelworks.domain.request import EntryPoint, Origin, PageRequest
from panelworks.errors import Misconfigured, UnknownName
from panelworks.models.loading import Recipe, load_network
from panelworks.models.registry import card_for
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine, get_engine
from panelworks.page.fallbacks import NAMES
from panelworks.page.pipeline import MIN_SCORE_GAIN, failed
from panelworks.settings import Settings, get_settings
from tests.networks import random_compact
from tests.pages import drawn, file_of, write_page


def path_of(uri: str) -> Path:
    from urllib.parse import unquote, urlsplit

    return Path(unquote(urlsplit(uri).path))


def picture_at(uri: str) -> Image.Image:
    return Image.open(path_of(uri))


def test_a_small_page_is_enlarged_validated_and_delivered(tmp_path: Path) -> None:
    page = write_page(tmp_path / "my page.png")
    result = enhance_picture(page, tmp_path / "out")
    assert result.error is None
    assert (result.status, result.route, result.cached) == ("success", "upscaled", False)
    assert result.master and result.source and result.quality and result.content_key
    assert (
        path_of(result.master.uri) == tmp_path / "out" / "upscaled" / f"my-page-{result.content_key[:12]}.png"
    )
    with picture_at(result.master.uri) as master:
        assert master.size == (320, 400)
    assert result.quality.after.overall > result.quality.before.overall
    assert {v.name: v.format for v in result.variants} == {"normal": "jpeg", "high": "webp"}
    for variant in result.variants:
        assert path_of(variant.uri).parent.name == result.content_key
        with picture_at(variant.uri) as image:
            assert image.size == (variant.width, variant.height)
    stages = {"ingest", "recall", "assess", "enhance", "validate", "variants", "publish", "total"}
    assert set(result.seconds) == stages
    written = json.loads((tmp_path / "out" / "results" / f"{result.content_key}.json").read_text())
    assert written == result.model_dump(mode="json")


def test_the_second_time_comes_from_the_cache(tmp_path: Path) -> None:
    page = write_page(tmp_path / "page.png")
    first = enhance_picture(page, tmp_path / "one")
    second = enhance_picture(page, tmp_path / "two")
    assert (first.cached, second.cached) == (False, True)
    assert first.master and second.master
    assert path_of(first.master.uri).read_bytes() == path_of(second.master.uri).read_bytes()
    assert not enhance_picture(page, tmp_path / "two", force=True).cached


def test_a_cached_result_whose_objects_are_gone_is_computed_again(tmp_path: Path, settings: Settings) -> None:
    import shutil

    page = write_page(tmp_path / "page.png")
    enhance_picture(page, tmp_path / "out")
    shutil.rmtree(settings.store_location)
    assert enhance_picture(page, tmp_path / "out").model_dump(include={"status", "cached"}) == {
        "status": "success",
        "cached": False,
    }


def test_a_good_page_is_delivered_as_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_page(tmp_path / "page.png")
    options = EnhanceOptions(quality_threshold=0.0, technical_threshold=0.0)
    result = enhance_picture(page, tmp_path / "out", options=options)
    assert result.route == "good_quality"
    assert result.master
    assert path_of(result.master.uri).read_bytes() == page.read_bytes()
    assert (result.model, result.scale, result.steps) == (None, 1.0, ())


@pytest.mark.parametrize("look", ["ink", "screentone"])
def test_gray_in_gray_out(look: str, tmp_path: Path) -> None:
    page = write_page(tmp_path / "page.png", look="ink" if look == "ink" else "screentone")
    result = enhance_picture(page, tmp_path / "out")
    assert result.route == "upscaled"
    assert result.master
    uris = [result.master.uri, *(variant.uri for variant in result.variants)]
    for uri in uris:
        with picture_at(uri) as image:
            red, green, blue = (np.asarray(image.convert("RGB"))[:, :, c] for c in range(3))
            assert np.array_equal(red, green)
            assert np.array_equal(red, blue)


def test_alpha_is_enlarged_beside_the_colour_and_kept(tmp_path: Path) -> None:
    image = Image.fromarray(drawn(96, 96).pixels)
    circle = (np.hypot(*np.mgrid[-48:48, -48:48]) < 40).astype(np.uint8) * 255
    image.putalpha(Image.fromarray(circle))
    result = enhance_picture(file_of(image), tmp_path / "out")
    assert result.route == "upscaled"
    assert result.master
    with picture_at(result.master.uri) as master:
        assert master.mode == "RGBA"
        assert master.size == (192, 192)
        assert master.getchannel("A").getpixel((0, 0)) == 0
        assert master.getchannel("A").getpixel((96, 96)) == 255


@pytest.mark.parametrize(("scale", "side"), [(1.0, 100), (1.37, 137), (2.0, 200)])
def test_the_master_has_exactly_the_size_asked_for(scale: float, side: int, tmp_path: Path) -> None:
    data = file_of(Image.fromarray(drawn(100, 100).pixels))
    result = enhance_picture(data, tmp_path / "out", options=EnhanceOptions(scale=scale))
    assert result.master
    assert (result.master.width, result.master.height) == (side, side)


def test_a_page_that_fails_validation_ends_better_by_the_fallback(tmp_path: Path) -> None:
    garbage = random_compact(tmp_path / "garbage.pth", strength=3.0)
    result = enhance_picture(
        write_page(tmp_path / "page.png"), tmp_path / "out", options=EnhanceOptions(model=str(garbage))
    )
    assert result.route == "upscaled"
    assert result.fallback
    assert [(attempt.model, attempt.passed) for attempt in result.fallback.attempts] == [
        ("garbage", False),
        ("panelworks-2x", True),
        ("lanczos", True),
    ]
    assert result.fallback.attempts[0].name == NAMES["fp32"], "it failed alike, so that tiles are not tried"
    taken = next(attempt for attempt in result.fallback.attempts if attempt.taken)
    assert taken.model == "panelworks-2x"
    assert taken.score == pytest.approx(result.quality.after.overall if result.quality else 0)
    assert result.model == "panelworks-2x"


def test_a_page_that_nothing_improves_is_delivered_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANELWORKS_FALLBACKS", "fp32,tile")
    get_settings.cache_clear()
    page = write_page(tmp_path / "page.png")
    garbage = random_compact(tmp_path / "garbage.pth", strength=3.0)
    result = enhance_picture(page, tmp_path / "out", options=EnhanceOptions(model=str(garbage)))
    assert (result.status, result.route) == ("success", "couldn't_upscale")
    assert result.fallback
    assert not any(attempt.passed for attempt in result.fallback.attempts)
    assert result.master
    assert path_of(result.master.uri).parent.name == "couldn't_upscale"
    assert path_of(result.master.uri).read_bytes() == page.read_bytes()


def test_a_score_below_the_target_triggers_the_fallback_and_the_best_result_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANELWORKS_TARGET_SCORE", "0.999")
    get_settings.cache_clear()
    result = enhance_picture(write_page(tmp_path / "page.png"), tmp_path / "out")
    assert (result.status, result.route) == ("success", "upscaled")
    assert result.fallback and result.quality
    assert "below the target" in result.fallback.reason
    tried = [attempt.name for attempt in result.fallback.attempts]
    assert tried == [NAMES["lanczos"]], "precision and tiles change no score"
    kept = result.quality.after.overall
    assert all((attempt.score or 0) <= kept + MIN_SCORE_GAIN for attempt in result.fallback.attempts)
    (note,) = (note for note in result.notes if note.startswith("below_target"))
    assert f"{kept:.2f}" in note and "best of 2 results" in note


def test_a_page_too_large_to_enlarge_is_delivered_as_it_was(tmp_path: Path, settings: Settings) -> None:
    small = settings.model_copy(update={"max_output_pixels": 1000})
    request = PageRequest(
        source=str(write_page(tmp_path / "page.png")), out=str(tmp_path / "out"), job_id="1"
    )
    result = enhance_directly(request, Engine(small))
    assert (result.status, result.route) == ("success", "couldn't_upscale")
    assert result.fallback
    assert "megapixels" in result.fallback.reason
    assert result.fallback.attempts == (), "no way makes a smaller page: before, each was tried"


def test_a_bug_is_a_result_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(get_engine(), "assess", broken)
    result = enhance_picture(write_page(tmp_path / "page.png"), tmp_path / "out")
    assert result.error
    assert result.error.code == "internal"


@pytest.mark.parametrize(("entry_point", "shown"), [("operator", True), ("http", False), ("event", False)])
def test_only_operators_see_local_paths(entry_point: EntryPoint, shown: bool, tmp_path: Path) -> None:
    request = PageRequest(
        source="data:,x",
        out="out",
        options=EnhanceOptions(),
        job_id="1",
        origin=Origin(tool="test", entry_point=entry_point),
    )
    folder = failed(request, Misconfigured("not_writable", f"{tmp_path} cannot be used."))
    assert folder.error is not None
    assert (str(tmp_path) in folder.error.message) is shown
    name = failed(request, UnknownName("unknown_model", "There is no model 'x'."))
    assert name.error is not None
    assert name.error.message == "There is no model 'x'."


def test_every_page_has_its_row_in_the_ledger(tmp_path: Path, settings: Settings) -> None:
    assert len(open_ledger(settings).read()) == 0
    good = enhance_picture(write_page(tmp_path / "page.png"), tmp_path / "out")
    enhance_picture(tmp_path / "missing.png", tmp_path / "out")
    rows = open_ledger(settings).read()
    assert rows["status"].tolist() == ["success", "error"]
    assert rows["route"].tolist()[0] == "upscaled"
    assert rows["error"].tolist()[1] == "not_found"
    assert rows["content_key"][0] == good.content_key


def test_in_and_out_of_a_bucket(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from panelworks.storage import open_folder

    settings = get_settings()
    data = file_of(Image.fromarray(drawn().pixels))
    open_folder(f"s3://{bucket}/in", settings).write("page.png", data, "image/png")
    monkeypatch.setenv("PANELWORKS_STORE", f"s3://{bucket}/work")
    get_settings.cache_clear()
    get_engine.cache_clear()
    first = enhance_picture(f"s3://{bucket}/in/page.png", f"s3://{bucket}/out")
    assert first.error is None
    assert first.master
    assert first.master.uri.startswith(f"s3://{bucket}/out/upscaled/page-")
    folder = open_folder(f"s3://{bucket}/out", settings)
    assert folder.exists(f"results/{first.content_key}.json")
    for variant in first.variants:
        assert folder.exists(variant.uri.removeprefix(f"s3://{bucket}/out/"))
    assert enhance_picture(f"s3://{bucket}/in/page.png", f"s3://{bucket}/out").cached


def test_it_can_be_called_from_a_running_event_loop(tmp_path: Path) -> None:
    import asyncio

    async def notebook() -> PageResult:
        return enhance_picture(write_page(tmp_path / "page.png"), tmp_path / "out")

    assert asyncio.run(notebook()).status == "success"


def test_without_a_place_named_the_bucket_is_the_place(bucket: str, tmp_path: Path) -> None:
    result = enhance_picture(write_page(tmp_path / "page.png"))
    assert result.master
    assert result.master.uri.startswith(f"s3://{bucket}/upscaled/")


def test_a_result_survives_json(tmp_path: Path) -> None:
    result = enhance_picture(write_page(tmp_path / "page.png"), tmp_path / "out")
    assert PageResult.model_validate_json(result.model_dump_json()) == result


def test_the_bundled_network_beats_lanczos_on_works_it_never_saw(assets: Path, settings: Settings) -> None:
    from training.corpus import read_pages
    from training.evaluate import compare

    networks = {"ours": load_network(Recipe(card_for(BUNDLED), "fp32"), settings)}
    gains = [
        row.by_method["ours"].psnr - row.by_method["Lanczos"].psnr
        for row in compare(read_pages(assets / "pages", held_out=True), networks, side=384)
    ]
    assert len(gains) >= 8
    assert sum(gains) / len(gains) >= 2.0
