"""Formats by `Accept`: qualities, preferences, and conversions in bounded memory."""

import asyncio
import io

import pytest
from PIL import Image

from panelworks.errors import Rejected
from panelworks.settings import Settings
from service.gateway import negotiation
from service.gateway.negotiation import Conversions, accepted_qualities, choose

AVIF, WEBP, JPEG, PNG = "image/avif", "image/webp", "image/jpeg", "image/png"
CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FIREFOX = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"


@pytest.mark.parametrize(
    ("accept", "stored", "expected"),
    [
        (None, [AVIF, WEBP, JPEG], (AVIF, False)),
        ("", [WEBP], (WEBP, False)),
        ("*/*", [JPEG], (JPEG, False)),
        (CHROME, [AVIF, WEBP, JPEG], (AVIF, False)),
        (CHROME, [JPEG], (JPEG, False)),
        (FIREFOX, [JPEG, WEBP], (WEBP, False)),
        ("image/jpeg", [AVIF, WEBP, JPEG], (JPEG, False)),
        ("image/webp;q=0.5, image/jpeg;q=0.9", [AVIF, WEBP, JPEG], (JPEG, False)),
        ("image/avif;q=0, image/*", [AVIF, WEBP, JPEG], (WEBP, False)),
        ("image/avif;q=0, */*;q=0.1", [AVIF], (WEBP, True)),
        ("image/jpeg", [WEBP], (JPEG, True)),
        ("IMAGE/JPEG ; Q=0.3", [WEBP], (JPEG, True)),
        ("image/webp;q=0.2,image/avif;q=0.8", [PNG], (AVIF, True)),
        ("image/jpeg;q=0.1, image/webp", [JPEG], (JPEG, False)),
        ("image/webp;level=1;q=0.4, nonsense, image/jpeg;q=x, /, */png", [WEBP, JPEG], (WEBP, False)),
        ("nonsense", [WEBP], (WEBP, False)),
        ("image/png", [PNG], (PNG, False)),
    ],
)
def test_a_format_is_chosen(accept: str | None, stored: list[str], expected: tuple[str, bool]) -> None:
    assert choose(accept, stored) == expected


@pytest.mark.parametrize("accept", ["text/html", "image/png", "image/*;q=0", "*/*;q=0", "image/jxl, text/*"])
def test_nothing_fits(accept: str) -> None:
    with pytest.raises(Rejected) as caught:
        choose(accept, [WEBP])
    assert caught.value.code == "not_acceptable"


def test_a_long_header_is_read_in_time() -> None:
    assert accepted_qualities("image/jpeg;q=0." + "0" * 100_000 + ",", [JPEG]) == {JPEG: 1.0}
    assert accepted_qualities("a/b," * 100_000, [JPEG]) == {JPEG: 0.0}


def file_of(format: str, size: tuple[int, int] = (40, 30), frames: int = 1) -> bytes:
    buffer = io.BytesIO()
    images = [Image.new("RGB", size, (50 * index, 80, 120)) for index in range(frames)]
    more = {"save_all": True, "append_images": images[1:]} if frames > 1 else {}
    images[0].save(buffer, format, **more)
    return buffer.getvalue()


@pytest.mark.parametrize(("media_type", "format"), [(AVIF, "AVIF"), (WEBP, "WEBP"), (JPEG, "JPEG")])
def test_a_picture_is_converted_once(media_type: str, format: str, settings: Settings) -> None:
    conversions = Conversions(settings)
    data = file_of("PNG")

    async def convert() -> list[bytes]:
        return await asyncio.gather(*(conversions.convert('"a"', data, media_type) for _ in range(5)))

    made = asyncio.run(convert())
    assert all(one is made[0] for one in made)
    with Image.open(io.BytesIO(made[0])) as image:
        assert (image.format, image.size) == (format, (40, 30))


def test_the_cache_is_bounded(settings: Settings) -> None:
    size = len(asyncio.run(Conversions(settings).convert("x", file_of("PNG"), JPEG)))
    conversions = Conversions(settings, max_bytes=3 * size)

    async def convert() -> None:
        for index in range(10):
            await conversions.convert(str(index), file_of("PNG"), JPEG)

    asyncio.run(convert())
    assert 0 < conversions.cached_bytes <= 3 * size


@pytest.mark.parametrize(
    "data",
    [
        file_of("WEBP", frames=3),
        file_of("PNG")[:-30],
        b"text",
        b"",
        file_of("PNG", (400, 300)),
        b"\xff\x0a damaged JPEG XL",
    ],
)
def test_other_pictures_are_not_converted(
    data: bytes, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(negotiation, "MAX_CONVERTED_PIXELS", 100_000)
    with pytest.raises(Rejected) as caught:
        asyncio.run(Conversions(settings).convert("x", data, JPEG))
    assert caught.value.code == "not_acceptable"
