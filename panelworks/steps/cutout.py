"""Cutting figures out of their background with the package rembg."""

import contextlib
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.domain.options import Matting
from panelworks.domain.plan import Step
from panelworks.errors import Invalid, Misconfigured
from panelworks.models.weights import require_weights
from panelworks.pictures import Picture, resize
from panelworks.pictures.picture import Pixels, to_image
from panelworks.pictures.resample import resize_plane
from panelworks.steps.base import WeightsProvider, Work, planned_card

_MAX_UNDECIDED_SHARE: Final = 0.3
"""Maximum share of a page that is neither figure nor background for its edge to be softened."""
_STDOUT_LOCK = threading.Lock()
_MAX_MATTING_PIXELS: Final = 1_000_000
"""Larger pages are matted at a smaller size."""
_SESSION_FAMILIES: Final = {"isnet-anime": "isnet-anime", "u2net": "u2net", "u2netp": "u2netp"}
"""Preprocessing of rembg for a network. Default: that of isnet-general-use."""


class CutoutProvider(WeightsProvider):
    """Adds an alpha channel. The colours stay."""

    name: Final = "rembg"
    packages = ("rembg", "onnxruntime")

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        from rembg import remove

        card = planned_card(step)
        session = _open_session(
            require_weights(card, work.settings), _SESSION_FAMILIES.get(card.name, "isnet-general-use")
        )
        image = to_image(Picture(picture.pixels)).convert("RGB")
        try:
            mask: Any = remove(image, session=session, only_mask=True)
            alpha = np.asarray(mask.convert("L"), dtype=np.uint8)
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime raises its own kinds
            raise Invalid("network_failed", f"{card.name} failed ({type(error).__name__}).") from error
        if step.config.get("matting"):
            alpha = _soften_edge(picture, alpha, Matting.model_validate(step.config["matting"]), work)
        if picture.alpha is not None:
            alpha = np.minimum(alpha, picture.alpha)
        return Picture(picture.pixels, alpha)


def _soften_edge(picture: Picture, alpha: Pixels, matting: Matting, work: Work) -> Pixels:
    """Soften the edge by closed-form matting if most of the page is clearly figure or background.

    The solver takes hours for undecided areas. Large pages are matted at a smaller size.
    """
    from rembg.bg import alpha_matting_cutout

    share = min(1.0, (_MAX_MATTING_PIXELS / alpha.size) ** 0.5)
    size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    small, erode = resize_plane(alpha, size), round(matting.erode * share)
    surely = (small > matting.foreground), (small < matting.background)
    figure, background = (_erode(one, erode).mean() for one in surely)
    if not figure or not background or 1 - figure - background > _MAX_UNDECIDED_SHARE:
        work.note(
            "the edge was not softened: too much of the page is neither clearly figure nor clearly background"
        )
        return alpha
    image = to_image(resize(Picture(picture.pixels), size)).convert("RGB")
    with (
        _STDOUT_LOCK,
        contextlib.redirect_stdout(sys.stderr),
    ):  # pymatting prints its warnings on standard output
        cut = alpha_matting_cutout(
            image, Image.fromarray(small), matting.foreground, matting.background, erode
        )
    return resize_plane(np.asarray(cut.getchannel("A"), dtype=np.uint8), picture.size)


def _erode(mask: npt.NDArray[np.bool_], pixels: int) -> npt.NDArray[np.uint8]:
    """Remove this number of pixels from the border of a mask."""
    kernel = np.ones((max(1, pixels), max(1, pixels)), np.uint8)
    return np.asarray(cv2.erode(mask.astype(np.uint8), kernel), dtype=np.uint8)


@lru_cache(maxsize=2)
def _open_session(path: Path, family: str) -> Any:
    """Open a session with a checked weight file, so that rembg does not download one.

    Raises:
        Misconfigured: `weights_unreadable`.
    """
    import onnxruntime
    from rembg.sessions import sessions

    here = {"download_models": classmethod(lambda cls, *args, **kwargs: str(path))}
    kind: Any = type("LocalSession", (sessions[family],), here)
    try:
        return kind(family, onnxruntime.SessionOptions(), providers=_execution_providers(onnxruntime))
    except Exception as error:  # onnxruntime raises its own kinds
        raise Misconfigured("weights_unreadable", f"{path.name} is not a usable weight file.") from error


def _execution_providers(onnxruntime: Any) -> list[str]:
    available: list[str] = onnxruntime.get_available_providers()
    return [one for one in ("CUDAExecutionProvider", "CPUExecutionProvider") if one in available]
