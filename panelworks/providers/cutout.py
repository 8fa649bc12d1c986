"""Cutting figures out of their background, by the package rembg."""

import contextlib
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from panelworks.errors import Invalid, Misconfigured
from panelworks.models.registry import card_for
from panelworks.models.weights import weights_path
from panelworks.pictures import Picture, resize
from panelworks.pictures.picture import Pixels, to_image
from panelworks.pictures.resample import resize_plane
from panelworks.providers.base import Weighted, Work
from panelworks.records import Matting, Step

_MOST_UNSURE: Final = 0.3
"""Share of a page that may be neither figure nor background for its edge to be softened."""
_MATTED_PIXELS: Final = 1_500_000
"""Largest page whose edge is softened at its own size."""
_FAMILIES: Final = {"isnet-anime": "isnet-anime", "u2net": "u2net"}
"""How rembg prepares a picture for a network; others are prepared as for isnet-general-use."""


class CutoutProvider(Weighted):
    """The picture keeps its colours and gets an alpha channel."""

    name: Final = "rembg"
    packages = ("rembg", "onnxruntime")

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        from rembg import remove

        card = card_for(step.weights or step.model)
        session = _session(weights_path(card, work.settings), _FAMILIES.get(card.name, "isnet-general-use"))
        image = to_image(Picture(picture.pixels)).convert("RGB")
        try:
            mask: Any = remove(image, session=session, only_mask=True)
            alpha = np.asarray(mask.convert("L"), dtype=np.uint8)
        except (RuntimeError, ValueError) as error:
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

    unsure = float(((alpha <= matting.foreground) & (alpha >= matting.background)).mean())
    if unsure > _MOST_UNSURE or alpha.max() <= matting.foreground or alpha.min() >= matting.background:
        work.note("the edge was not softened: the network was not sure what is figure")
        return alpha
    side = min(1.0, (_MATTED_PIXELS / alpha.size) ** 0.5)
    size = (max(1, round(picture.width * side)), max(1, round(picture.height * side)))
    image = to_image(resize(Picture(picture.pixels), size)).convert("RGB")
    mask = to_image(Picture(resize_plane(alpha, size)[:, :, None]))
    with contextlib.redirect_stdout(sys.stderr):  # pymatting prints its warnings among our results
        cut = alpha_matting_cutout(image, mask, matting.foreground, matting.background, matting.erode)
    return resize_plane(np.asarray(cut.getchannel("A"), dtype=np.uint8), picture.size)


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
