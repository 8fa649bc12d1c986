"""Cutting figures out of their background, by the package rembg."""

from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from panelworks.errors import Invalid, Misconfigured
from panelworks.models.registry import card_for
from panelworks.models.weights import weights_path
from panelworks.pictures import Picture
from panelworks.pictures.picture import to_image
from panelworks.providers.base import Weighted, Work
from panelworks.records import Matting, Step

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
        matting = Matting.model_validate(step.config["matting"]) if step.config.get("matting") else None
        options: dict[str, Any] = {}
        if matting is not None:
            options = {
                "alpha_matting": True,
                "alpha_matting_foreground_threshold": matting.foreground,
                "alpha_matting_background_threshold": matting.background,
                "alpha_matting_erode_size": matting.erode,
            }
        try:
            cut: Any = remove(image, session=session, **options)
            alpha = np.asarray(cut.getchannel("A"), dtype=np.uint8)
        except (RuntimeError, ValueError) as error:
            raise Invalid("network_failed", f"{card.name} failed ({type(error).__name__}).") from error
        if picture.alpha is not None:
            alpha = np.minimum(alpha, picture.alpha)
        return Picture(picture.pixels, alpha)


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
