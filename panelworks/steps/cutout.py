"""Cutting figures out of their background, by the package rembg."""

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
from panelworks.models.weights import weights_path
from panelworks.pictures import Picture, resize
from panelworks.pictures.picture import Pixels, to_image
from panelworks.pictures.resample import resize_plane
from panelworks.steps.base import Weighted, Work, planned_card

_MOST_UNSURE: Final = 0.3
"""Share of a page that may be neither figure nor background for its edge to be softened."""
_STDOUT = threading.Lock()
_MATTED_PIXELS: Final = 1_000_000
"""Largest page whose edge is softened at its own size."""
_FAMILIES: Final = {"isnet-anime": "isnet-anime", "u2net": "u2net"}
"""How rembg prepares a picture for a network; others are prepared as for isnet-general-use."""


class CutoutProvider(Weighted):
    """The picture keeps its colours and gets an alpha channel."""

    name: Final = "rembg"
    packages = ("rembg", "onnxruntime")

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        from rembg import remove

        card = planned_card(step)
        session = _session(weights_path(card, work.settings), _FAMILIES.get(card.name, "isnet-general-use"))
        image = to_image(Picture(picture.pixels)).convert("RGB")
        try:
            mask: Any = remove(image, session=session, only_mask=True)
            alpha = np.asarray(mask.convert("L"), dtype=np.uint8)
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime has kinds of its own
            raise Invalid("network_failed", f"{card.name} failed ({type(error).__name__}).") from error
        if step.config.get("matting"):
            alpha = _matted(picture, alpha, Matting.model_validate(step.config["matting"]), work)
        if picture.alpha is not None:
            alpha = np.minimum(alpha, picture.alpha)
        return Picture(picture.pixels, alpha)


def _matted(picture: Picture, alpha: Pixels, matting: Matting, work: Work) -> Pixels:
    """A softer edge by closed-form matting, where the network was sure of most of the page.

    What is neither figure nor background takes the solver hours; large pages are matted at a smaller size.
    """
    from rembg.bg import alpha_matting_cutout

    share = min(1.0, (_MATTED_PIXELS / alpha.size) ** 0.5)
    size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    small, erode = resize_plane(alpha, size), round(matting.erode * share)
    surely = (small > matting.foreground), (small < matting.background)
    figure, background = (_eroded(one, erode).mean() for one in surely)
    if not figure or not background or 1 - figure - background > _MOST_UNSURE:
        work.note("the edge was not softened: too much of the page is neither surely figure nor surely not")
        return alpha
    image = to_image(resize(Picture(picture.pixels), size)).convert("RGB")
    with _STDOUT, contextlib.redirect_stdout(sys.stderr):  # pymatting prints its warnings among our results
        cut = alpha_matting_cutout(
            image, Image.fromarray(small), matting.foreground, matting.background, erode
        )
    return resize_plane(np.asarray(cut.getchannel("A"), dtype=np.uint8), picture.size)


def _eroded(mask: npt.NDArray[np.bool_], pixels: int) -> npt.NDArray[np.uint8]:
    """What remains of a mask when so many pixels are taken from its border."""
    kernel = np.ones((max(1, pixels), max(1, pixels)), np.uint8)
    return np.asarray(cv2.erode(mask.astype(np.uint8), kernel), dtype=np.uint8)


@lru_cache(maxsize=2)
def _session(path: Path, family: str) -> Any:
    """A session over our own, checked file: rembg would fetch one by itself.

    Raises:
        Misconfigured: `weights_unreadable`.
    """
    import onnxruntime
    from rembg.sessions import sessions

    here = {"download_models": classmethod(lambda cls, *args, **kwargs: str(path))}
    kind: Any = type("LocalSession", (sessions[family],), here)
    try:
        return kind(family, onnxruntime.SessionOptions(), providers=_providers(onnxruntime))
    except Exception as error:  # onnxruntime raises its own kinds, by their numbers
        raise Misconfigured("weights_unreadable", f"{path.name} is not a usable weight file.") from error


def _providers(onnxruntime: Any) -> list[str]:
    available: list[str] = onnxruntime.get_available_providers()
    return [one for one in ("CUDAExecutionProvider", "CPUExecutionProvider") if one in available]
