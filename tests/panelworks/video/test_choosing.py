"""Which frames are chosen: scenes, posters, and frames that are spread over a video."""

from pathlib import Path

import numpy as np
import pytest

from panelworks.settings import Settings
from panelworks.video.choosing import Measurements, best_time, find_scenes, spread_times
from panelworks.video.clip import Clip
from tests.videos import BLACK, HEIGHT, WHITE, WIDTH, page, panned, still, timed, write_video

PARTS = ((1.0, 2.4), (2.4, 4.2), (5.0, 6.4))
"""Begin and end of the scenes of the story, in seconds."""


def rows(*frames: tuple[float, float]) -> Measurements:
    """Frames of 25 per second: contrast and sharpness of each."""
    return Measurements(
        np.array([[i / 25, 128, contrast, 0, 255, sharp, 0, 0] for i, (contrast, sharp) in enumerate(frames)])
    )


def test_the_story_has_three_scenes(story: Path, settings: Settings) -> None:
    with Clip(story, settings) as clip:
        survey = clip.survey()
        times = clip.scene_times(survey, 10)
        best = clip.best(survey)
        spread = clip.spread_times(survey, 12)
    assert len(times) == len(PARTS), survey.scenes
    for seconds, (begin, end) in zip(times, PARTS, strict=True):
        assert begin <= seconds <= begin + 1.3 < end, times
    assert best in times
    assert len(spread) == 12
    assert spread == sorted(set(spread))
    assert all(any(begin <= seconds < end for begin, end in PARTS) for seconds in spread), spread


def test_a_slow_pan_is_one_scene(tmp_path: Path, settings: Settings) -> None:
    for speed in (2, 10, 40):
        path = write_video(tmp_path / f"{speed}.mp4", timed(panned(page(4), 2.0, speed)))
        with Clip(path, settings) as clip:
            survey = clip.survey()
        assert len(survey.scenes) == 1, speed
        assert survey.measured.clear.mean() > 0.9, speed


def test_the_sharpest_frame_is_chosen(tmp_path: Path, settings: Settings) -> None:
    import cv2

    blurred = np.asarray(cv2.GaussianBlur(page(1), (0, 0), 3), np.uint8)
    frames = [*still(blurred, 0.5), *still(page(1), 0.6), *still(blurred, 1.0)]
    path = write_video(tmp_path / "blurred.mp4", timed(frames), options={"crf": "18"})
    with Clip(path, settings) as clip:
        assert 0.5 <= clip.best(clip.survey()) < 1.1


def test_a_cut_between_white_pages_is_found(tmp_path: Path, settings: Settings) -> None:
    """They differ little in colours and brightness."""
    pages = [WHITE.copy(), WHITE.copy()]
    pages[0][20:60, 20:60:3] = 60
    pages[1][70:110:3, 120:170] = 60
    path = write_video(tmp_path / "white.mp4", timed([*still(pages[0], 1.0), *still(pages[1], 1.0)]))
    with Clip(path, settings) as clip:
        assert [round(scene.start) for scene in clip.survey().scenes] == [0, 1]


def test_one_frame_is_enough(tmp_path: Path, settings: Settings) -> None:
    path = write_video(tmp_path / "one.mp4", [(0, page(1))])
    with Clip(path, settings) as clip:
        survey = clip.survey()
        assert clip.scene_times(survey, 10) == [0.0]
        assert clip.spread_times(survey, 5) == [0.0]
        assert clip.read(0.0).picture.size == (WIDTH, HEIGHT)


def test_a_fade_alone_gives_its_clearest_frame() -> None:
    measured = rows(*((10.0 * i, 5.0 * i) for i in range(1, 6)))
    measured.rows[:, 7] = 1
    assert find_scenes(measured) == []
    assert best_time(measured, []) == pytest.approx(4 / 25)
    assert spread_times(measured, 3, 1.0)


def test_a_blurred_scene_is_ignored() -> None:
    frames = [(40.0, 900.0)] * 20 + [(40.0, 2.0)] * 20 + [(40.0, 1000.0)] * 20
    measured = rows(*frames)
    measured.rows[[20, 40], 6] = 0.6
    assert [round(scene.start, 2) for scene in find_scenes(measured)] == [0.0, 1.6]


def test_black_frames_belong_to_no_scene() -> None:
    measured = rows(*([(0.0, 0.0)] * 10 + [(40.0, 900.0)] * 20))
    measured.rows[:10, 3:5] = 0
    (scene,) = find_scenes(measured)
    assert scene.start == pytest.approx(0.4)
    assert scene.best > 0.55  # not within 0.2 s of a black frame
    assert BLACK.shape == (HEIGHT, WIDTH, 3)
