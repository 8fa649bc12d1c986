"""Create the picture of the README: a part of the sample page before and after, at the size of the result.

python examples/before_after.py
"""

import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image

from panelworks import enhance_picture

HERE = Path(__file__).parent
BOX = (58, 50, 330, 250)
"""The part that is shown, in pixels of the source."""


def main() -> None:
    page = HERE / "pages" / "colour-page.png"
    with tempfile.TemporaryDirectory() as out:
        result = enhance_picture(page, out, force=True)
        if result.master is None:
            raise SystemExit(f"the page was not enhanced: {result.error}")
        after = Image.open(unquote(urlsplit(result.master.uri).path)).convert("RGB")
        before = Image.open(page).convert("RGB").crop(BOX)
        size = (2 * before.width, 2 * before.height)
        pair = Image.new("RGB", (2 * size[0] + 8, size[1]), "white")
        pair.paste(before.resize(size, Image.Resampling.NEAREST), (0, 0))
        left, top, right, bottom = (2 * side for side in BOX)
        pair.paste(after.crop((left, top, right, bottom)), (size[0] + 8, 0))
        pair.quantize(128).save(HERE.parent / "docs" / "images" / "before-after.png", optimize=True)


if __name__ == "__main__":
    main()
