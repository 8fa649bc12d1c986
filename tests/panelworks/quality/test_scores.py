import io
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image, ImageFilter

from panelworks.domain.cards import BUNDLED
from panelworks.domain.quality import QualityReport
from panelworks.models.loading import Recipe, load_network
from panelworks.models.registry import card_for
from panelworks.models.tiling import run_tiled
from panelworks.pictures import Picture, resize
from panelworks.pictures.view import View
from panelworks.quality import SCORERS, assess, assess_result, decide, score_delivery
from panelworks.settings import Settings
from tests.pages import SAMPLE_PAGES, drawn
from training.enlargements import sharpen


def page() -> Image.Image:
    """The sample page in colour, on which every scorer has something to measure."""
    return Image.open(SAMPLE_PAGES[0]).convert("RGB")


def component(image: Image.Image, name: str) -> float:
    pixels = np.asarray(image)
    return assess(Picture(pixels.reshape(image.height, image.width, -1))).components[name]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def noisy(image: Image.Image, deviation: float) -> Image.Image:
    grain = np.random.default_rng(0).normal(0, deviation, (image.height, image.width, 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def test_blur_lowers_sharpness_step_by_step() -> None:
    ladder = [component(page().filter(ImageFilter.GaussianBlur(r)), "sharpness") for r in (0, 1, 2, 3)]
    assert ladder == sorted(ladder, reverse=True)
    assert ladder[0] > 0.9 > 0.6 > ladder[-1]


def test_noise_lowers_the_noise_score_step_by_step() -> None:
    ladder = [component(noisy(page(), deviation), "noise") for deviation in (0, 4, 8, 16)]
    assert ladder == sorted(ladder, reverse=True)
    assert ladder[0] > 0.9
    assert ladder[-1] < 0.7


def test_jpeg_lowers_the_compression_score_wherever_its_grid_begins() -> None:
    hurt = jpeg(page(), 20)
    for offset in (0, 3):
        cropped = hurt.crop((offset, offset, hurt.width, hurt.height))
        assert component(cropped, "compression") < component(page(), "compression") - 0.2


def test_stairs_in_a_gradient_are_banding() -> None:
    def posterised(levels: int) -> Image.Image:
        step = 255 / (levels - 1)
        return Image.fromarray(np.rint(np.rint(np.asarray(page()) / step) * step).astype(np.uint8))

    ladder = [component(image, "banding") for image in (page(), posterised(40), posterised(14))]
    assert ladder == sorted(ladder, reverse=True)
    assert ladder[0] > 0.9 > 0.85 > ladder[-1]


def test_contrast_falls_with_the_range() -> None:
    pale = Image.fromarray((np.asarray(page()) // 4 + 120).astype(np.uint8))
    assert component(pale, "contrast") < component(page(), "contrast")


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (20, 200), (300, 300)])
def test_flat_colour_is_not_a_defect(level: int, size: tuple[int, int]) -> None:
    report = assess(Picture(np.full((size[1], size[0], 3), level, np.uint8)))
    kept = {name: value for name, value in report.components.items() if name != "contrast"}
    assert set(kept.values()) == {1.0}
    assert 0 <= report.overall <= 1


@pytest.mark.parametrize("size", [(1, 64), (64, 1), (2, 2), (3000, 1), (5, 9), (20, 200)])
@pytest.mark.parametrize("depth", [1, 3])
def test_tiny_pictures_are_assessed(size: tuple[int, int], depth: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (size[1], size[0], depth), dtype=np.uint8)
    assert 0 <= assess(Picture(pixels)).overall <= 1


def test_the_described_component_is_the_one_with_the_largest_loss() -> None:
    result = report(0.9, 0.6).model_copy(update={"components": {"sharpness": 0.75, "clipping": 0.2}})
    assert "soft lines: clear (0.75)" in decide(result, 0.5, 0.8).reason


def test_screentone_is_not_noise() -> None:
    assert assess(drawn(384, 480, "screentone")).components["noise"] > 0.7


def test_the_resolution_score_counts_pixels_up_to_a_screen() -> None:
    def resolution(width: int, height: int) -> float:
        return assess(Picture(np.zeros((height, width, 1), np.uint8))).resolution

    assert resolution(1920, 1080) == 0.25
    assert resolution(3840, 2160) == resolution(5000, 5000) == 1.0


def test_a_large_page_scores_like_its_parts() -> None:
    small = drawn(640, 800, seed=9)
    large = Picture(np.tile(small.pixels, (3, 3, 1)))
    assert abs(assess(large).technical - assess(small).technical) < 0.15


def test_every_component_has_its_row() -> None:
    assert list(assess(drawn()).components) == [name for scorer in SCORERS for name in scorer.weights]


def enlarged(filter: str, size: tuple[int, int] | None = None) -> Picture:
    small = decoded(page())
    return resize(small, size or (2 * small.width, 2 * small.height), filter)


def decoded(image: Image.Image) -> Picture:
    return Picture(np.asarray(image))


def delivered_report() -> QualityReport:
    """The report on the sample page when it is delivered at twice its size."""
    source = decoded(page())
    return score_delivery(assess(source), source, (2 * source.width, 2 * source.height))


def test_a_source_is_scored_as_a_viewer_enlarges_it() -> None:
    report = delivered_report()
    assert report.technical > 0.9
    assert report.overall == assess(enlarged("bicubic")).technical
    assert report.delivery is not None and report.delivery.components == report.shown_components
    assert report.resolution == assess(decoded(page())).resolution


@pytest.mark.parametrize("filter", ["bilinear", "bicubic", "lanczos"])
def test_an_enlargement_by_a_filter_is_not_fit_for_print(filter: str) -> None:
    assert assess_result(enlarged(filter), delivered_report()).overall < 0.7


@pytest.mark.parametrize("path", SAMPLE_PAGES, ids=lambda path: str(path.stem))
def test_an_enlargement_by_the_bundled_network_is(path: Path, settings: Settings) -> None:
    small = np.asarray(Image.open(path).convert("RGB"))[200:456, 100:356]
    network = load_network(Recipe(card_for(BUNDLED), "fp32"), settings)
    result = Picture(run_tiled(network, small, 256))
    report = score_delivery(assess(Picture(small)), Picture(small), (512, 512))
    assert assess_result(result, report).overall > 0.8
    sharpened = assess_result(Picture(sharpen(result.pixels, 2.5)), report)
    assert sharpened.overall < assess_result(result, report).overall, "halos must not raise the score"


def test_a_master_is_scored_at_the_size_of_its_delivery() -> None:
    report = delivered_report()
    larger = enlarged("nearest", (3 * page().width, 3 * page().height))
    at_delivery = assess_result(larger, report)
    assert at_delivery.delivery is not None
    assert (at_delivery.delivery.width, at_delivery.delivery.height) == (1240, 1760)
    shrunk = assess_result(resize(larger, (1240, 1760)), report)
    assert at_delivery.overall == pytest.approx(shrunk.overall, abs=0.005)
    assert at_delivery.resolution > shrunk.resolution


class Opinion:
    """A learned metric, as an installation may plug one in."""

    weights: ClassVar = {"opinion": 0.5}

    def scores(self, views: Sequence[View]) -> dict[str, float]:
        return {"opinion": 0.25}


def test_another_scorer_counts_with_its_weight() -> None:
    plain, advised = assess(drawn()), assess(drawn(), (*SCORERS, Opinion()))
    assert advised.components["opinion"] == 0.25
    assert advised.technical == pytest.approx(plain.technical * 0.5, abs=1e-3)


def test_a_blown_out_sky_is_clipped_and_paper_is_not() -> None:
    kept = np.abs(np.arange(800) * 2.5 % 400 - 200)[None, :].repeat(128, axis=0) + 28
    blown = (kept - 128) * 1.5 + 128
    assert component(Image.fromarray(kept.clip(1, 254).astype(np.uint8)), "clipping") == 1
    assert component(Image.fromarray(blown.clip(0, 255).astype(np.uint8)), "clipping") < 1
    assert component(jpeg(page(), 60), "clipping") == 1
    assert component(page(), "clipping") == 1


def report(resolution: float, technical: float) -> QualityReport:
    components = {"sharpness": technical, "noise": 1.0}
    return QualityReport(resolution=resolution, technical=technical, components=components, overall=0.5)


@pytest.mark.parametrize(
    ("resolution", "technical", "good", "reason"),
    [
        (0.9, 0.9, True, "are enough"),
        (0.5, 0.5, True, "are enough"),
        (0.49, 0.9, False, "resolution 0.49 is below 0.50"),
        (0.9, 0.3, False, "soft lines: strong (0.30)"),
    ],
)
def test_the_gate_needs_both_scores_and_states_its_reason(
    resolution: float, technical: float, good: bool, reason: str
) -> None:
    decision = decide(report(resolution, technical), 0.5, 0.5)
    assert decision.good == good
    assert reason in decision.reason
