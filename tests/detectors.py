"""A detector of a third party, installed as its package would be."""

import importlib
import sys
from pathlib import Path

import pytest

from panelworks.steps import detectors

MAGENTA_SQUARES = """
import numpy as np
from panelworks.domain.regions import ArtifactRegion

class MagentaSquares:
    version = "1.0"

    def detect(self, picture, settings):
        colour = picture.rgb().astype(int)
        rows, columns = np.nonzero((colour[:, :, 0] > 200) & (colour[:, :, 1] < 60) & (colour[:, :, 2] > 200))
        if rows.size:
            yield ArtifactRegion(
                kind="extra_finger", left=int(columns.min()), top=int(rows.min()), strength=0.9,
                width=int(np.ptp(columns)) + 1, height=int(np.ptp(rows)) + 1,
            )
"""
"""A stand-in for a network that finds errors of image generators: it finds the pixels of one colour."""


def install_detector(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str = MAGENTA_SQUARES, name: str = "squares"
) -> None:
    """Install a package with one detector, the first class in `code`."""
    module = f"third_party_{name}"
    (folder / f"{module}.py").write_text(code)
    information = folder / f"{module}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    target = code.partition("class ")[2].partition(":")[0] or "missing"
    (information / "entry_points.txt").write_text(f"[{detectors.GROUP}]\n{name} = {module}:{target}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, module, raising=False)
    importlib.invalidate_caches()
    detectors._load_detector.cache_clear()
