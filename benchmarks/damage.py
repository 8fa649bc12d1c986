"""The tables and pictures of the validator in docs/explanation/quality.md, made with the code of the test suite.

python -m benchmarks.damage --assets ../shared/assets [--side 384] [--place 3] [--pictures docs/images/damage.png]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from panelworks.domain.cards import BUNDLED
from panelworks.pictures import Picture, resize
from panelworks.settings import get_settings
from tests.damage import STRENGTHS
from tests.damage_counts import (
    DRAWN,
    PHOTOGRAPHIC,
    caught_share,
    counted,
    damages,
    enhanced,
    refused,
    source_of,
    sources,
)


def contact_sheet(pages: dict[str, Picture], results: dict[str, Picture], side: int = 200) -> Image.Image:
    """Make a sheet with one strong example of each kind: the faithful result above, the damaged one below."""
    shown: dict[str, tuple[Picture, Picture]] = {}
    for damage, _, strength, pair, result in damages(pages, results):
        if STRENGTHS[strength] == "middle":
            shown.setdefault(damage.__name__, (pair.result, result))
    columns = 5
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * (side + 6), rows * (2 * side + 14)), "white")
    for index, (faithful, damaged) in enumerate(shown.values()):
        change = np.abs(faithful.rgb().astype(int) - resize(damaged, faithful.size).rgb()).sum(axis=2)
        left, top = _most_changed(change, side)
        place = (index % columns * (side + 6), index // columns * (2 * side + 14))
        for offset, picture in ((0, faithful), (side + 2, damaged)):
            part = picture.region(left, top, side, side)
            sheet.paste(Image.fromarray(part.rgb()), (place[0], place[1] + offset))
    return sheet


def _most_changed(change: np.ndarray[tuple[int, ...], np.dtype[np.int64]], side: int) -> tuple[int, int]:
    """Left and top of the square with the largest change."""
    sums = np.pad(change, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(left), int(top)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--place", type=int, default=0, help="number of the square of each page")
    parser.add_argument("--pictures", type=Path, help="write a contact sheet of the damages to this file")
    args = parser.parse_args()
    settings = get_settings().model_copy(update={"model_path": (args.assets / "weights",)})
    pages = sources(args.assets, args.side, args.place)
    print("| network | refused | pages and checks |\n|---|---|---|")
    for model in (*DRAWN, PHOTOGRAPHIC):
        results = enhanced(model, pages, settings)
        failed = refused(pages, results)
        failures = "; ".join(
            f"{name}: {', '.join(check.name for check in checks)}" for name, checks in failed.items()
        )
        print(f"| {model.removesuffix('.pth')} | {len(failed)} of {len(pages)} | {failures} |", flush=True)
        if model == BUNDLED:
            bundled = results
    counts = counted(pages, bundled)
    print("\n| damage | weak | middle | strong | caught first by | missed |\n|---|---|---|---|---|---|")
    for name, count in counts.items():
        shares = " | ".join(f"{caught}/{of}" for caught, of in zip(count.caught, count.of, strict=True))
        first = ", ".join(f"{check} {times}" for check, times in count.checks.most_common(3))
        missed = ", ".join(one for one in count.missed if "weak" not in one)
        print(f"| {name.replace('_', ' ')} | {shares} | {first} | {missed} |")
    print(f"\ncaught of middle and strong: {caught_share(counts):.1%}")
    if args.pictures:
        drawn = {
            path.name: source_of(path, args.side) for path in sorted(Path("examples/pages").glob("*.png"))
        }
        contact_sheet(drawn, enhanced(BUNDLED, drawn, settings)).save(args.pictures)


if __name__ == "__main__":
    main()
