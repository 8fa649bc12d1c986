"""Variants of a master: crop, fill, watermark, bytes, quality, metadata, JPEG XL; and how they enter the content key."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panelworks.domain.formats import VariantSpec
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import PageResult
from panelworks.domain.treatment import Treatment
from panelworks.domain.watermark import Watermark
from panelworks.errors import Misconfigured, PanelworksError, Rejected, UnsafeSource
from panelworks.page.delivery import make_variants
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.page.entry_points import admit, admit_treatment
from panelworks.page.variants import Variant
from panelworks.pictures import Picture, jpeg_xl
from panelworks.pictures.compression import TARGET_SIMILARITY, measure_similarity
from panelworks.settings import Settings
from tests.pages import drawn, file_of, write_page


def made(picture: Picture, **fields: Any) -> tuple[Variant, Image.Image]:
    """One variant, and its file opened. Its pixels are compared: it is lossless unless a format is given."""
    spec = VariantSpec.model_validate({"name": "a", "format": "png", **fields})
    (variant,) = make_variants(picture, (spec,))
    image = Image.open(io.BytesIO(variant.data))
    image.load()
    return variant, image


def ramp(width: int, height: int) -> Picture:
    """Each pixel contains its column and its row."""
    rows, columns = np.mgrid[0:height, 0:width]
    return Picture(np.dstack([columns, rows, 0 * rows]).astype(np.uint8))


@pytest.mark.parametrize(
    ("fields", "size", "first"),
    [
        ({"width": 50}, (50, 100), None),
        ({"width": 500}, (100, 200), (0, 0)),
        ({"width": 100, "height": 100, "fit": "crop", "focus": (0, 0)}, (100, 100), (0, 0)),
        ({"width": 100, "height": 100, "fit": "crop", "focus": (1, 1)}, (100, 100), (0, 100)),
        ({"width": 100, "height": 100, "fit": "crop", "focus": (0.5, 0.5)}, (100, 100), (0, 50)),
        ({"width": 1, "height": 1, "fit": "crop"}, (1, 1), None),
        ({"width": 300, "height": 300, "fit": "crop"}, (300, 300), None),
        ({"width": 300, "height": 2, "fit": "crop"}, (300, 2), None),
        ({"width": 90, "height": 50, "fit": "fill"}, (90, 50), (255, 255)),
        ({"width": 400, "height": 400, "fit": "fill", "background": "#102030"}, (400, 400), (0x10, 0x20)),
    ],
)
def test_the_fit_decides_the_size(
    fields: dict[str, Any], size: tuple[int, int], first: tuple[int, int] | None
) -> None:
    variant, image = made(ramp(100, 200), **fields)
    assert variant.size == image.size == size
    if first is not None:
        assert image.getpixel((0, 0))[:2] == first  # type: ignore[index]


def test_the_background_is_behind_transparent_parts() -> None:
    picture = Picture(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))
    for format in ("png", "webp", "jpeg"):
        image = made(picture, format=format, background="#ff0000", quality=100)[1].convert("RGBA")
        red, green, _, alpha = image.getpixel((1, 1))  # type: ignore[misc]
        assert (red > 240, green < 15, alpha) == (True, True, 255)


@pytest.mark.parametrize(
    ("position", "corner"),
    [
        ("top-left", (2, 2)),
        ("bottom-right", (88, 88)),
        ("center", (45, 45)),
        ("top", (45, 2)),
        ("left", (2, 45)),
    ],
)
def test_a_watermark_is_where_it_should_be(position: Any, corner: tuple[int, int], tmp_path: Path) -> None:
    page = Picture(np.zeros((100, 100, 3), np.uint8))
    found = watermarked(page, tmp_path, position=position, size=0.1, opacity=1, margin=0.02)
    rows, columns = np.nonzero(found[:, :, 0])
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (*corner, corner[0] + 9, corner[1] + 9)


def watermarked(page: Picture, folder: Path, **fields: Any) -> np.ndarray[Any, Any]:
    """The pixels of a variant with a white square as watermark."""
    from panelworks.page.variants import Materials
    from panelworks.pictures import decode

    file = file_of(Image.new("RGB", (30, 30), "white"))
    materials = Materials(lambda _: file, lambda data: decode(data, Settings()).picture)
    mark = Watermark(image="stored:x", **fields)
    (variant,) = make_variants(page, (VariantSpec(name="a", format="png", watermark=mark),), materials)
    with Image.open(io.BytesIO(variant.data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("size", "fields"),
    [
        ((1, 1), {"size": 1}),
        ((5, 2), {"size": 1, "margin": 0.5}),
        ((300, 3), {"size": 1}),
        ((3, 300), {"size": 1, "tiled": True}),
        ((64, 64), {"size": 0.01, "tiled": True}),
    ],
)
def test_a_watermark_larger_than_the_variant_is_reduced(
    size: tuple[int, int], fields: dict[str, Any], tmp_path: Path
) -> None:
    page = Picture(np.zeros((size[1], size[0], 1), np.uint8))
    found = watermarked(page, tmp_path, opacity=0.5, **fields)
    assert found.shape[:2] == size[::-1]
    assert found.max() in range(120, 136)


def test_a_tiled_watermark_covers_the_variant(tmp_path: Path) -> None:
    found = watermarked(
        Picture(np.zeros((300, 300, 3), np.uint8)), tmp_path, size=0.1, tiled=True, opacity=0.3
    )
    quarters = [found[y : y + 75, x : x + 75] for y in range(0, 300, 75) for x in range(0, 300, 75)]
    assert all(quarter.any() for quarter in quarters)


def test_a_text_is_drawn_on_white_and_on_black_and_gray_stays_gray() -> None:
    for level in (0, 255):
        page = Picture(np.full((200, 300, 1), level, np.uint8))
        image = made(page, watermark={"text": "© Panelworks", "size": 0.8, "opacity": 1})[1]
        assert image.mode == "L"
        assert np.ptp(np.asarray(image)) > 200
        assert made(page, watermark={"text": "a", "colour": "#ff0000"})[1].mode == "RGB"


@pytest.mark.parametrize("format", ["jpeg", "webp", "avif"])
@pytest.mark.parametrize("look", ["colour", "screentone"])
def test_bytes_at_most_holds(format: str, look: Any) -> None:
    page = drawn(100, 130, look) if format == "avif" else drawn(300, 400, look)
    full = len(made(page, format=format, quality=90)[0].data)
    limit = full * 3 // 4
    variant, _ = made(page, format=format, quality=90, bytes_at_most=limit, min_quality=1)
    if (format, look) == ("webp", "screentone"):  # the smallest file is the lossless one
        assert len(variant.data) <= full
        assert variant.note is not None
        return
    assert len(variant.data) <= limit
    assert variant.quality is not None and 1 <= variant.quality < 90
    assert variant.note is None
    more, _ = made(page, format=format, quality=90, bytes_at_most=full * 2)
    assert len(more.data) <= full * 2


def test_the_lowest_quality_is_delivered_with_a_note() -> None:
    variant, _ = made(drawn(), format="jpeg", bytes_at_most=100, min_quality=40)
    assert variant.quality == 40
    assert variant.note is not None
    assert "more than the 100 that are allowed: at its lowest quality 40" in variant.note


@pytest.mark.parametrize("format", ["jpeg", "webp", "avif"])
def test_the_automatic_quality_is_the_lowest_that_looks_like_the_page(format: str) -> None:
    page = drawn(120, 150) if format == "avif" else drawn(400, 500)
    variant, image = made(page, format=format, quality="auto")
    assert variant.quality is not None and 30 <= variant.quality <= 95
    luma = Picture(np.asarray(image.convert("RGB"))).luma()
    similarity = measure_similarity(page.luma(), luma)
    assert similarity > TARGET_SIMILARITY - 0.01
    if variant.quality > 40:
        lower = made(page, format=format, quality=variant.quality - 15)[1].convert("RGB")
        assert measure_similarity(page.luma(), Picture(np.asarray(lower)).luma()) < similarity


def test_a_progressive_jpeg() -> None:
    assert made(drawn(), format="jpeg", progressive=True)[1].info.get("progressive") == 1
    assert "progressive" not in made(drawn(), format="jpeg")[1].info


def deliver(engine: Engine, source: Path, **options: Any) -> PageResult:
    wanted = EnhanceOptions.model_validate({"model": "lanczos", **options})
    out = str(source.parent / "out")
    result = enhance_directly(PageRequest(source=str(source), out=out, options=wanted, job_id="job"), engine)
    assert result.error is None, result.error
    return result


def file_at(uri: str) -> bytes:
    return Path(uri.removeprefix("file://")).read_bytes()


def test_a_request_delivers_its_own_variants(engine: Engine, tmp_path: Path) -> None:
    page = write_page(tmp_path / "page.png")
    logo = tmp_path / "logo.png"
    logo.write_bytes(file_of(Image.new("RGB", (8, 8), "red")))
    thumb = {
        "name": "thumb",
        "width": 64,
        "height": 64,
        "fit": "crop",
        "format": "webp",
        "bytes_at_most": 100,
    }
    options = {"variants": [thumb], "watermark": {"image": str(logo), "size": 1, "opacity": 1}}
    result = deliver(engine, page, **options)
    (variant,) = result.variants
    assert (variant.name, variant.width, variant.height, variant.quality) == ("thumb", 64, 64, 20)
    assert any("variant thumb has" in note for note in result.notes)
    with Image.open(io.BytesIO(file_at(variant.uri))) as image:
        red, green, _ = image.convert("RGB").getpixel((32, 32))  # type: ignore[misc]
    assert (red > 200, green < 60) == (True, True)
    assert result.master is not None
    with Image.open(io.BytesIO(file_at(result.master.uri))) as master:  # never on the master
        assert Image.Image.getpixel(master.convert("RGB"), (32, 32)) != (255, 0, 0)
    again = deliver(engine, page, **options)
    assert (again.cached, again.content_key) == (True, result.content_key)
    moved = tmp_path / "moved.png"  # the path does not count, the content does
    logo.rename(moved)
    options["watermark"] = {"image": str(moved), "size": 1, "opacity": 1}
    assert deliver(engine, page, **options).content_key == result.content_key
    moved.write_bytes(file_of(Image.new("RGB", (8, 8), "blue")))
    assert deliver(engine, page, **options).content_key != result.content_key


@pytest.mark.parametrize("policy", ["strip", "copyright", "keep"])
def test_metadata_of_the_source_reaches_the_variant(policy: str, engine: Engine, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x8298], exif[0x0112] = "(c) Ada", 6
    exif.get_ifd(0x8825)[2] = (50.0, 30.0, 0.0)
    page = tmp_path / "page.jpg"
    page.write_bytes(file_of(Image.fromarray(drawn().pixels), "JPEG", exif=exif.tobytes()))
    result = deliver(engine, page, variants=[{"name": "a", "format": "jpeg", "metadata": policy}])
    with Image.open(io.BytesIO(file_at(result.variants[0].uri))) as image:
        known = image.getexif()
    assert known.get(0x8298) == (None if policy == "strip" else "(c) Ada")
    assert not known.get_ifd(0x8825)
    assert (image.width, image.height) == (400, 320)  # the orientation is applied


def test_jpeg_xl_needs_its_package(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg_xl, "_load_plugin", lambda: None)
    request = PageRequest(
        source=str(write_page(tmp_path / "page.png")), out=str(tmp_path), job_id="job",
        options=EnhanceOptions(variants=(VariantSpec(name="a", format="jxl"),)),
    )  # fmt: skip
    with pytest.raises(Misconfigured) as caught:
        engine.ingest(request)
    assert caught.value.code == "jxl_missing"


def test_jpeg_xl_is_written(engine: Engine, tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    for picture in (
        drawn(),
        drawn(look="screentone"),
        Picture(drawn().pixels, drawn(look="ink").pixels[:, :, 0]),
    ):
        variant, image = made(picture, format="jxl", quality=100)
        assert variant.format == "jxl"
        assert np.array_equal(
            np.asarray(image).reshape(200, 160, -1)[:, :, : picture.pixels.shape[2]], picture.pixels
        )
    assert len(made(drawn(), format="jxl", quality=60)[0].data) < len(made(drawn(), format="jxl")[0].data)


def test_an_unchanged_jpeg_becomes_jpeg_xl_without_loss(engine: Engine, tmp_path: Path) -> None:
    pillow_jxl = pytest.importorskip("pillow_jxl")
    exif = Image.Exif()
    exif.get_ifd(0x8825)[2] = (50.0, 30.0, 0.0)
    page = tmp_path / "page.jpg"
    picture = Image.fromarray(drawn(400, 500).pixels)
    page.write_bytes(file_of(picture, "JPEG", quality=95, exif=exif.tobytes(), comment=b"secret"))
    variants = [{"name": "a", "format": "jxl"}, {"name": "small", "format": "jxl", "width": 100}]
    result = deliver(engine, page, variants=variants, quality_threshold=0, technical_threshold=0)
    assert result.route == "good_quality"
    files = {variant.name: file_at(variant.uri) for variant in result.variants}
    restored, _, jpeg, *_ = pillow_jxl.Decoder(num_threads=1)(files["a"])
    assert restored
    assert b"secret" not in jpeg
    assert b"Exif" not in jpeg
    with Image.open(page) as before, Image.open(io.BytesIO(jpeg)) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))
    assert not pillow_jxl.Decoder(num_threads=1)(files["small"])[0]


@pytest.mark.parametrize("entry_point", ["http", "event"])
@pytest.mark.parametrize(
    ("image", "code"),
    [
        ("/etc/passwd", "forbidden_path"),
        ("file:///etc/passwd", "forbidden_path"),
        ("../logo.png", "forbidden_path"),
        ("s3://other/logo.png", "forbidden_bucket"),
        ("ftp://example.com/a.png", "forbidden_scheme"),
    ],
)
def test_clients_do_not_read_files_as_watermarks(
    image: str, code: str, entry_point: Any, settings: Settings
) -> None:
    mark = Watermark(image=image)
    for treatment in (
        Treatment(watermark=mark),
        Treatment(variants=(VariantSpec(name="a", watermark=mark),)),
    ):
        with pytest.raises(UnsafeSource) as caught:
            admit_treatment(treatment, settings)
        assert caught.value.code == code
        rule = {"name": "a", "then": treatment.given}
        for options in (treatment.given, {"rules": [rule]}):
            request = PageRequest(
                source="data:,", out=settings.default_out, job_id="job",
                options=EnhanceOptions.model_validate(options), origin=Origin(entry_point=entry_point),
            )  # fmt: skip
            with pytest.raises(UnsafeSource):
                admit(request, settings)
    with pytest.raises(UnsafeSource):
        source = VariantSpec(name="a", metadata="keep", source="stored:" + "0" * 64 + ".jpeg/a")
        admit_treatment(Treatment(variants=(source,)), settings)


@pytest.mark.parametrize(
    ("mark", "code"),
    [
        ({"image": "data:image/png;base64,AAAA"}, "unsupported_format"),
        ({"image": "data:,"}, "empty"),
        ({"image": "https://169.254.169.254/"}, "forbidden_address"),
        ({"image": "/nothing/here.png"}, "not_found"),
        ({"text": "漫画"}, "watermark_text"),
    ],
)
def test_unusable_watermarks_are_refused(
    mark: dict[str, str], code: str, engine: Engine, tmp_path: Path
) -> None:
    request = PageRequest(
        source=str(write_page(tmp_path / "page.png")), out=str(tmp_path), job_id="job",
        options=EnhanceOptions.model_validate({"watermark": mark}),
    )  # fmt: skip
    with pytest.raises(PanelworksError) as caught:
        engine.ingest(request)
    assert caught.value.code == code


def test_a_watermark_has_few_pixels(engine: Engine, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.avif"
    bomb.write_bytes(file_of(Image.new("L", (8000, 4000)), "AVIF", speed=10))
    with pytest.raises(Rejected, match="picture of the watermark") as caught:
        engine.watermarks.stored(EnhanceOptions(watermark=Watermark(image=str(bomb))))
    assert caught.value.code == "too_large"
