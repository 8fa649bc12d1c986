"""Videos that several tests read."""

from pathlib import Path

import pytest

from tests.videos import write_story


@pytest.fixture(scope="package")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `tests.videos.write_story`."""
    return write_story(tmp_path_factory.mktemp("videos") / "story.mp4", options={"g": "20", "crf": "18"})
