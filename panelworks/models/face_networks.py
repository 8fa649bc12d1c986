"""The networks that restoring a face takes: a detector, a parser (both of facexlib), and GFPGAN (by spandrel)."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from facexlib.detection.retinaface import RetinaFace
from facexlib.parsing.parsenet import ParseNet

from panelworks.domain.cards import ModelCard
from panelworks.errors import Invalid, Misconfigured, ResourceExhausted
from panelworks.models.face_alignment import SIDE, Face, Floats
from panelworks.models.registry import card_for
from panelworks.models.torch_network import described, pick_device
from panelworks.models.weight_files import read_pickle
from panelworks.models.weights import weights_path
from panelworks.pictures.picture import Picture, Pixels
from panelworks.settings import Settings

_SURE: Final = 0.9
"""Confidence from which the detector's faces count."""
_SMALLEST: Final = 32
"""Side, in pixels, below which a face is left alone."""
_LONGEST: Final = 1600
_FACE_CLASSES: Final = (1, 2, 4, 5, 6, 7, 10, 11, 12, 13)
"""Of ParseNet's 19 classes those of the face itself: skin, nose, eyes, brows, mouth and lips; no glasses, hair or neck."""


@dataclass(frozen=True)
class FaceNetworks:
    """All of them, loaded."""

    device: torch.device
    detector: Any
    parser: Any
    restorer: Any
    lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, picture: Picture) -> list[Face]:
        """The faces of a picture, photographed or drawn."""
        colour = picture.rgb()
        scale = max(1, -(-max(picture.size) // _LONGEST))
        image = np.ascontiguousarray(colour[::scale, ::scale, ::-1]).astype(np.float32)
        with self.lock, _explained(), torch.inference_mode():  # the detector keeps a page's size in itself
            found = self.detector.detect_faces(image, _SURE)
        faces = [_face(one, scale) for one in np.asarray(found, dtype=np.float32)]
        return [
            face for face in faces if min(face.box[2] - face.box[0], face.box[3] - face.box[1]) >= _SMALLEST
        ]

    def restore(self, crop: Pixels) -> Pixels:
        """A better version of an aligned face, SIDExSIDEx3.

        Raises:
            Invalid: `network_failed`.
        """
        with _explained(), torch.inference_mode():
            # Not through spandrel's call: it clips to [0, 1], and this network speaks in [-1, 1].
            output = self.restorer.model(self._tensor(crop), return_rgb=False, randomize_noise=False)[0]
        face = output.float().cpu().numpy()[0].transpose(1, 2, 0)
        return np.asarray(np.rint((np.clip(face, -1, 1) + 1) * 127.5), dtype=np.uint8)

    def skin(self, crop: Pixels) -> Floats:
        """Where the face is in an aligned crop, SIDExSIDE in [0, 1]."""
        with _explained(), torch.inference_mode():
            classes = self.parser(self._tensor(crop))[0].argmax(dim=1)[0].cpu().numpy()
        return np.isin(classes, _FACE_CLASSES).astype(np.float32)

    def _tensor(self, crop: Pixels) -> torch.Tensor:
        """1x3xHxW in [-1, 1]."""
        planes = np.ascontiguousarray(crop.astype(np.float32).transpose(2, 0, 1)[None])
        return torch.from_numpy(planes / np.float32(127.5) - 1).to(self.device)


@contextmanager
def _explained() -> Iterator[None]:
    """What torch says, in our words."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            raise ResourceExhausted("out_of_memory", "There is too little memory for faces.") from error
        raise Invalid("network_failed", f"A face network failed ({type(error).__name__}).") from error


def _face(found: Floats, scale: int) -> Face:
    """What the detector says of a face (left, top, right, bottom, confidence, ten coordinates), at full size."""
    left, top, right, bottom = (float(side) * scale for side in found[:4])
    return Face((left, top, right, bottom), found[5:15].reshape(5, 2) * np.float32(scale))


def load_faces(card: ModelCard, settings: Settings) -> FaceNetworks:
    """The networks of a card: GFPGAN, and its parts.

    Raises:
        Misconfigured: a file holds something else.
        Transient: a file could not be downloaded.
    """
    device = pick_device(settings.device)
    detector_card = next(card_for(part) for part in card.parts if part.startswith("retinaface"))
    kind = "mobile0.25" if "mobile" in detector_card.file else "resnet50"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # facexlib calls what torchvision deprecates
        module = RetinaFace(network_name=kind, device=device)
    detector = _filled(module, detector_card, settings)
    parser = _filled(
        ParseNet(in_size=SIDE, out_size=SIDE, parsing_ch=19), card_for("parsing-parsenet"), settings
    )
    restorer: Any = described(read_pickle(weights_path(card, settings)))
    restorer.to(device).eval()
    return FaceNetworks(device, detector.to(device), parser.to(device), restorer)


def _filled(module: torch.nn.Module, card: ModelCard, settings: Settings) -> torch.nn.Module:
    state = {n.removeprefix("module."): v for n, v in read_pickle(weights_path(card, settings)).items()}
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise Misconfigured("unsupported_model", f"{card.file} does not hold {card.name}.") from error
    return module.eval()
