"""Pages of PDF files look as PDFium renders them, at the resolution of their image."""

import hashlib
import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from PIL import Image, ImageChops

from panelworks.archives.opening import open_archive
from panelworks.archives.pdf import PdfArchive
from panelworks.errors import Rejected
from panelworks.settings import Settings
from tests.books import page_file

WIDTH, HEIGHT = 120, 160
JPEG = page_file(1, WIDTH, HEIGHT, "JPEG")
DRAW = b"q 120 0 0 160 0 0 cm /I Do Q"
TEXT = b"BT /F 20 Tf %d Tr 20 80 Td (stamp) Tj ET"
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def write_pdf(path: Path, objects: Sequence[bytes]) -> Path:
    """A PDF of these objects, numbered from 1; the first is the catalogue."""
    data, offsets = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    data += b"trailer<</Size %d/Root 1 0 R/Info 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)
    path.write_bytes(data)
    return path


def stream(entries: bytes, data: bytes) -> bytes:
    return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (entries, len(data), data)


def image(
    data: bytes = JPEG, entries: bytes = b"/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/DCTDecode"
) -> bytes:
    return stream(b"/Type/XObject/Subtype/Image/Width %d/Height %d%s" % (WIDTH, HEIGHT, entries), data)


def one_page(
    path: Path,
    content: bytes = DRAW,
    page: bytes = b"/MediaBox[0 0 120 160]",
    picture: bytes | None = None,
    others: Sequence[bytes] = (),
    catalogue: bytes = b"",
) -> Path:
    """A page with the image /I, the font /F, and other objects from number 7 on."""
    return write_pdf(
        path / "book.pdf",
        [
            b"<</Type/Catalog/Pages 2 0 R/Title(A book)/Author(Somebody)%s>>" % catalogue,
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            b"<</Type/Page/Parent 2 0 R/Contents 4 0 R%s/Resources<</XObject<</I 5 0 R/O 7 0 R>>/Font<</F 6 0 R>>"
            b"/ExtGState<</G<</ca 0.5>>>>>>>>" % page,
            stream(b"", content),
            picture or image(),
            FONT,
            *(others or (FONT,)),
        ],
    )


def write_costly_pdf(path: Path) -> None:
    """A book whose page draws a form that draws itself twice: no parser comes to its end."""
    loop = stream(
        b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</I 5 0 R>>>>",
        b"/I Do /I Do 0 0 9 9 re f",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    one_page(path.parent, DRAW, picture=loop).rename(path)


def only_page(path: Path, settings: Settings) -> bytes:
    with open_archive(path, settings) as archive:
        ((_, content),) = archive.read({0})
    assert isinstance(content, bytes), content
    return content


def rendered(path: Path, size: tuple[int, int]) -> Image.Image:
    document = pypdfium2.PdfDocument(path)
    page = document[0]
    drawn: Image.Image = page.render(scale=size[0] / page.get_width()).to_pil().convert("RGB")
    document.close()
    return drawn.resize(size)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    "content",
    [
        DRAW,
        DRAW + TEXT % 3,  # the text layer of a searchable scan
        b"1 1 1 rg 0 0 120 160 re f " + DRAW,  # white paper below the scan
        TEXT % 0 + DRAW,  # text that the scan hides
    ],
)
def test_an_image_that_is_the_page_is_taken_as_it_is(
    content: bytes, tmp_path: Path, settings: Settings
) -> None:
    assert only_page(one_page(tmp_path, content), settings) == JPEG


@pytest.mark.parametrize(
    ("content", "page", "picture"),
    [
        (DRAW + TEXT % 0, b"", None),
        (DRAW + b"1 0 0 rg 50 70 3 3 re f", b"", None),
        (DRAW + b"q 10 0 0 10 50 70 cm /I Do Q", b"", None),
        (b"q 0 0 60 160 re W n " + DRAW + b" Q", b"", None),
        (b"/G gs " + DRAW, b"", None),
        (b"q 120 0 0 -160 0 160 cm /I Do Q", b"", None),
        (DRAW, b"/Rotate 180", None),
        (DRAW, b"", image(entries=b"/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/DCTDecode/Decode[1 0 1 0 1 0]")),
        (DRAW, b"/CropBox[0 0 120 80]", None),
        (DRAW, b"/Annots[<</Type/Annot/Subtype/Stamp/Rect[10 10 60 60]/AP<</N 7 0 R>>>>]", None),
    ],
    ids=["text", "path", "stamp", "clip", "opacity", "flip", "rotation", "decode", "crop", "annotation"],
)  # fmt: skip
def test_anything_else_is_rendered_at_the_resolution_of_the_image(
    content: bytes, page: bytes, picture: bytes | None, tmp_path: Path, settings: Settings
) -> None:
    form = stream(b"/Type/XObject/Subtype/Form/BBox[0 0 50 50]", b"1 0 0 rg 0 0 50 50 re f")
    path = one_page(tmp_path, content, b"/MediaBox[0 0 120 160]" + page, picture, [form])
    found = opened(only_page(path, settings))
    assert found.format == "PNG"
    assert found.size == (WIDTH, 80 if b"Crop" in page else HEIGHT)
    difference = ImageChops.difference(found.convert("RGB"), rendered(path, found.size))
    assert max(high for _, high in difference.getextrema()) <= 1  # type: ignore[misc]
    assert only_page(path, settings) != JPEG


def test_an_image_inside_a_form_is_taken_as_it_is(tmp_path: Path, settings: Settings) -> None:
    form = stream(b"/Type/XObject/Subtype/Form/BBox[0 0 1 1]/Resources<</XObject<</I 5 0 R>>>>", b"/I Do")
    path = one_page(tmp_path, b"q 120 0 0 160 0 0 cm /O Do Q", others=[form])
    assert only_page(path, settings) == JPEG


@pytest.mark.parametrize("points", [(60, 80), (288, 384), (57.6, 76.8), (86.4, 115.2)])
def test_pixels_that_are_not_jpeg_come_out_exactly(
    points: tuple[float, float], tmp_path: Path, settings: Settings
) -> None:
    """Whatever the resolution: 144, 30, 150 and 100 dpi; the last two have no whole number of points."""
    noise = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    picture = image(
        zlib.compress(noise.tobytes()), b"/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/FlateDecode"
    )
    page = b"/MediaBox[0 0 %g %g]" % points
    path = one_page(tmp_path, b"q %g 0 0 %g 0 0 cm /I Do Q" % points, page, picture)
    assert np.array_equal(np.asarray(opened(only_page(path, settings)).convert("RGB")), noise)


def test_drawings_and_small_images_do_not_lower_the_resolution(tmp_path: Path, settings: Settings) -> None:
    background = b"q 1200 0 0 1600 0 0 cm /I Do Q " + TEXT % 0
    path = one_page(tmp_path, background, b"/MediaBox[0 0 1200 1600]")  # 7 dpi
    assert opened(only_page(path, settings)).size == (5000, 6667)


def test_a_scan_in_strips_has_the_resolution_of_its_strips(tmp_path: Path, settings: Settings) -> None:
    strips = b"q 60 0 0 40 0 40 cm /I Do Q q 60 0 0 40 0 0 cm /I Do Q"
    path = one_page(tmp_path, strips, b"/MediaBox[0 0 60 80]")
    assert opened(only_page(path, settings)).size == (240, 320)  # the finer direction counts


def test_the_samples_look_as_they_render(assets: Path, settings: Settings) -> None:
    folder = assets / "faults" / "pdf"
    with open_archive(folder / "decode-and-masks.pdf", settings) as archive:
        found = {member.index: content for member, content in archive.read(set(range(13)))}
    for index in range(13):
        content = found[index]
        assert isinstance(content, bytes), content
        with Image.open(folder / f"decode-and-masks-truth-{index + 1}.png") as truth:
            difference = ImageChops.difference(truth.convert("RGB"), opened(content).convert("RGB"))
        assert max(high for _, high in difference.getextrema()) <= 8, index  # type: ignore[misc]


@pytest.mark.parametrize(("name", "size"), [("scan-100dpi.pdf", (400, 362)), ("scan-600dpi.pdf", (800, 724))])
def test_an_invisible_text_layer_does_not_change_the_resolution(
    name: str, size: tuple[int, int], assets: Path, settings: Settings
) -> None:
    assert opened(only_page(assets / "faults" / "pdf" / name, settings)).size == size


def test_jpeg_2000_scans_are_read(assets: Path, settings: Settings) -> None:
    with open_archive(assets / "faults" / "pdf" / "jpeg2000.pdf", settings) as archive:
        contents = [content for _, content in archive.read(set(range(4)))]
    assert [opened(content).size for content in contents if isinstance(content, bytes)] == [(240, 340)] * 4


@pytest.mark.parametrize(
    "name",
    [
        "pdf_100k_count_lie", "pdf_form_recursive", "pdf_image_30000x30000", "pdf_page_tree_loop", "pdf_sliver",
    ],
)  # fmt: skip
def test_a_document_that_costs_too_much_is_refused(name: str, assets: Path, settings: Settings) -> None:
    tight = settings.model_copy(update={"parser_memory_bytes": 400_000_000})
    try:
        with open_archive(assets / "faults" / "bombs" / f"{name}.pdf", tight) as archive:
            contents = [content for _, content in archive.read({0})]
    except Rejected as error:
        contents = [error]
    (refused,) = contents
    assert isinstance(refused, Rejected)
    assert refused.code in {
        "document_too_costly", "parser_crashed", "too_large", "damaged", "bad_page_size", "too_many_entries",
    }  # fmt: skip


def test_a_page_that_kills_its_child_takes_no_other_with_it(tmp_path: Path, settings: Settings) -> None:
    form = stream(
        b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</I 6 0 R>>>>",
        b"/I Do /I Do 0 0 9 9 re f",
    )
    page = (
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 120 160]/Contents 7 0 R/Resources<</XObject<</I %d 0 R>>>>>>"
    )
    path = write_pdf(
        tmp_path / "book.pdf",
        [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[3 0 R 4 0 R 8 0 R]/Count 3>>",
            page % 5, page % 6, image(), form, stream(b"", DRAW), page % 5,
        ],
    )  # fmt: skip
    tight = settings.model_copy(update={"parser_memory_bytes": 400_000_000})
    with PdfArchive(path, tight) as archive:
        first, second, third = (content for _, content in archive.read({0, 1, 2}))
    assert (first, third) == (JPEG, JPEG)
    assert isinstance(second, Rejected)
    assert second.code in ("document_too_costly", "parser_crashed")


@pytest.mark.parametrize("direction", ["L2R", "R2L"])
def test_title_author_and_direction_are_read(direction: str, tmp_path: Path, settings: Settings) -> None:
    catalogue = b"/ViewerPreferences<</Direction/%s>>" % direction.encode()
    with PdfArchive(one_page(tmp_path, catalogue=catalogue), settings) as archive:
        assert (archive.info.title, archive.info.authors) == ("A book", ("Somebody",))
        assert archive.info.right_to_left == (direction == "R2L")


@pytest.mark.parametrize("count", [2, 4, 8, 20])
def test_the_strips_of_a_scan_keep_their_pixels(count: int, tmp_path: Path, settings: Settings) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    entries = b"/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceRGB/BitsPerComponent 8"
    strips = [
        stream(entries % (WIDTH, HEIGHT // count), part.tobytes()) for part in np.split(noise, count, axis=0)
    ]
    names = b"".join(b"/S%d %d 0 R" % (number, number + 8) for number in range(count))
    form = stream(
        b"/Type/XObject/Subtype/Form/BBox[0 0 60 80]/Resources<</XObject<<%s>>>>" % names,
        b"".join(
            b"q 60 0 0 %g 0 %g cm /S%d Do Q " % (80 / count, 80 - 80 / count * (number + 1), number)
            for number in range(count)
        ),
    )
    path = one_page(tmp_path, b"/O Do", b"/MediaBox[0 0 60 80]", others=[form, *strips])
    assert np.array_equal(np.asarray(opened(only_page(path, settings)).convert("RGB")), noise)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        (b"<FEFF0041D8000042>", "AB"),  # half of a surrogate pair
        (b"<FEFF00410000>", "A"),
        (b"(\\337)", "\N{LATIN SMALL LETTER SHARP S}"),
    ],
)
def test_a_damaged_title_does_not_lose_the_book(
    title: bytes, expected: str, tmp_path: Path, settings: Settings
) -> None:
    path = one_page(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"(A book)", title))
    with open_archive(path, settings) as archive:
        assert len(archive.members) == 1
        assert archive.info.title == expected


RGB = b"/ColorSpace/DeviceRGB/BitsPerComponent 8"
GRAY4 = b"/ColorSpace/DeviceGray/BitsPerComponent 4"
RAW = np.random.default_rng(1).integers(0, 256, WIDTH * HEIGHT * 3, np.uint8).tobytes()


@pytest.mark.parametrize(
    ("picture", "damaged"),
    [
        (image(JPEG), False),
        (image(JPEG[: len(JPEG) // 2]), True),
        (image(RAW, RGB), False),
        (image(RAW[: len(RAW) * 2 // 3], RGB), True),
        (image(zlib.compress(RAW), RGB + b"/Filter/FlateDecode"), False),
        (image(zlib.compress(RAW)[: len(RAW) // 2], RGB + b"/Filter/FlateDecode"), True),
        (image(RAW[: WIDTH * HEIGHT // 2], GRAY4), False),
        (image(RAW[: WIDTH * HEIGHT // 3], GRAY4), True),
        (image(RAW[: WIDTH * HEIGHT // 8], b"/ColorSpace/DeviceGray/BitsPerComponent 1"), False),
        (image(RAW[: WIDTH * HEIGHT // 8], b"/ImageMask true/BitsPerComponent 1"), False),
        (image(RAW[: WIDTH * HEIGHT], b"/ColorSpace[/Indexed/DeviceRGB 1<000000ffffff>]/BitsPerComponent 8"), False),
        (image(RAW + RAW, b"/ColorSpace/DeviceRGB/BitsPerComponent 16"), False),
        (image(b"xx", RGB + b"/Filter/FooDecode"), True),
    ],
)  # fmt: skip
def test_a_damaged_image_of_a_page_is_named(
    picture: bytes, damaged: bool, tmp_path: Path, settings: Settings
) -> None:
    with open_archive(one_page(tmp_path, picture=picture), settings) as archive:
        ((member, content),) = archive.read({0})
        assert isinstance(content, bytes)
        assert [(refusal.name, refusal.code) for refusal in archive.refused] == (
            [(member.name, "damaged")] if damaged else []
        )


_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")


def rc4(key: bytes, data: bytes) -> bytes:
    state, j, out = list(range(256)), 0, bytearray()
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) & 255
        state[i], state[j] = state[j], state[i]
    i = j = 0
    for byte in data:
        i = (i + 1) & 255
        j = (j + state[i]) & 255
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) & 255])
    return bytes(out)


def write_encrypted_pdf(path: Path, *, user: bytes, owner: bytes) -> Path:
    """A red page, encrypted with RC4 and 128 bits (ISO 32000-1, 7.6.3, revision 3)."""

    def md5(data: bytes, rounds: int = 0) -> bytes:
        for _ in range(rounds + 1):
            data = hashlib.md5(data, usedforsecurity=False).digest()
        return data

    def wrapped(key: bytes, data: bytes) -> bytes:
        for turn in range(20):
            data = rc4(bytes(byte ^ turn for byte in key), data)
        return data

    def padded(password: bytes) -> bytes:
        return (password + _PADDING)[:32]

    identity, rights = bytes(range(16)), -4
    owner_entry = wrapped(md5(padded(owner), 50), padded(user))
    key = md5(padded(user) + owner_entry + struct.pack("<i", rights) + identity, 50)
    user_entry = wrapped(key, md5(_PADDING + identity)) + bytes(16)
    content = rc4(md5(key + b"\x04\x00\x00\x00\x00"), b"1 0 0 rg 0 0 120 160 re f")
    write_pdf(
        path,
        [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            b"<</Type/Page/Parent 2 0 R/Contents 4 0 R/MediaBox[0 0 120 160]>>",
            stream(b"", content),
        ],
    )
    encryption = (
        f"/Encrypt<</Filter/Standard/V 2/R 3/Length 128/P {rights}/O<{owner_entry.hex()}>/U<{user_entry.hex()}>>>"
        f"/ID[<{identity.hex()}><{identity.hex()}>]/Size"
    ).encode()
    path.write_bytes(path.read_bytes().replace(b"trailer<</Size", b"trailer<<" + encryption))
    return path


def test_a_pdf_that_needs_a_password_is_refused_and_one_that_needs_none_is_read(
    tmp_path: Path, settings: Settings
) -> None:
    locked = write_encrypted_pdf(tmp_path / "locked.pdf", user=b"secret", owner=b"owner")
    with pytest.raises(Rejected) as refused:
        open_archive(locked, settings)
    assert refused.value.code == "encrypted_archive"
    assert "password" in refused.value.message
    readable = write_encrypted_pdf(tmp_path / "readable.pdf", user=b"", owner=b"owner")
    with open_archive(readable, settings) as archive:
        ((_, page),) = archive.read({0})
    assert isinstance(page, bytes)
    assert Image.open(io.BytesIO(page)).convert("RGB").getpixel((10, 10)) == (255, 0, 0)
