"""The networks for restoring faces: a detector and a parser (both from facexlib), and GFPGAN (from spandrel)."""

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
from panelworks.models.face_alignment import FACE_SIDE_PIXELS, Face, Floats
from panelworks.models.registry import card_for
from panelworks.models.torch_network import identify_network, pick_device
from panelworks.models.weight_files import read_pickle
from panelworks.models.weights import require_weights
from panelworks.pictures.picture import Picture, Pixels
from panelworks.settings import Settings

_MIN_CONFIDENCE: Final = 0.9
"""Minimum confidence of a detection."""
_MIN_FACE_PIXELS: Final = 32
"""Smaller faces, by their shorter side, are not restored."""
_MAX_DETECTION_SIDE: Final = 1600
_FACE_CLASSES: Final = (1, 2, 4, 5, 6, 7, 10, 11, 12, 13)
"""ParseNet's classes (of 19) of the face itself: skin, nose, eyes, brows, mouth and lips; no glasses, hair or neck."""


@dataclass(frozen=True)
class FaceNetworks:
    """The loaded networks."""

    device: torch.device
    detector: Any
    parser: Any
    restorer: Any
    lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, picture: Picture) -> list[Face]:
        """Detect the faces of a picture, photographed or drawn."""
        colour = picture.rgb()
        scale = max(1, -(-max(picture.size) // _MAX_DETECTION_SIDE))
        image = np.ascontiguousarray(colour[::scale, ::scale, ::-1]).astype(np.float32)
        with (
            self.lock,
            _translate_errors(),
            torch.inference_mode(),
        ):  # the detector stores the size of the page
            found = self.detector.detect_faces(image, _MIN_CONFIDENCE)
        faces = [_to_face(one, scale) for one in np.asarray(found, dtype=np.float32)]
        return [
            face
            for face in faces
            if min(face.box[2] - face.box[0], face.box[3] - face.box[1]) >= _MIN_FACE_PIXELS
        ]

    def restore(self, crop: Pixels) -> Pixels:
        """Restore an aligned face, SIDExSIDEx3.

        Raises:
            Invalid: `network_failed`.
        """
        with _translate_errors(), torch.inference_mode():
            # Bypass spandrel's call, which clips to [0, 1]: the range of this network is [-1, 1].
            output = self.restorer.model(self._tensor(crop), return_rgb=False, randomize_noise=False)[0]
        face = output.float().cpu().numpy()[0].transpose(1, 2, 0)
        return np.asarray(np.rint((np.clip(face, -1, 1) + 1) * 127.5), dtype=np.uint8)

    def skin(self, crop: Pixels) -> Floats:
        """Mask of the face in an aligned crop, SIDExSIDE in [0, 1]."""
        with _translate_errors(), torch.inference_mode():
            classes = self.parser(self._tensor(crop))[0].argmax(dim=1)[0].cpu().numpy()
        return np.isin(classes, _FACE_CLASSES).astype(np.float32)

    def _tensor(self, crop: Pixels) -> torch.Tensor:
        """1x3xHxW in [-1, 1]."""
        planes = np.ascontiguousarray(crop.astype(np.float32).transpose(2, 0, 1)[None])
        return torch.from_numpy(planes / np.float32(127.5) - 1).to(self.device)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translate errors of torch."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            raise ResourceExhausted("out_of_memory", "There is too little memory for faces.") from error
        raise Invalid("network_failed", f"A face network failed ({type(error).__name__}).") from error


def _to_face(found: Floats, scale: int) -> Face:
    """Convert a detection (left, top, right, bottom, confidence, ten coordinates) to a face at full size."""
    left, top, right, bottom = (float(side) * scale for side in found[:4])
    return Face((left, top, right, bottom), found[5:15].reshape(5, 2) * np.float32(scale))


def load_face_networks(card: ModelCard, settings: Settings) -> FaceNetworks:
    """Load the networks of a card: GFPGAN and its parts.

    Raises:
        Misconfigured: a file does not contain the expected network, or `weights_missing`.
    """
    device = pick_device(settings.device)
    detector_card = next(card_for(part) for part in card.parts if part.startswith("retinaface"))
    kind = "mobile0.25" if "mobile" in detector_card.file else "resnet50"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # facexlib calls functions that torchvision deprecates
        module = RetinaFace(network_name=kind, device=device)
    detector = _load_module(module, detector_card, settings)
    parser = _load_module(
        ParseNet(in_size=FACE_SIDE_PIXELS, out_size=FACE_SIDE_PIXELS, parsing_ch=19),
        card_for("parsing-parsenet"),
        settings,
    )
    restorer: Any = identify_network(read_pickle(require_weights(card, settings)))
    restorer.to(device).eval()
    return FaceNetworks(device, detector.to(device), parser.to(device), restorer)


def _load_module(module: torch.nn.Module, card: ModelCard, settings: Settings) -> torch.nn.Module:
    state = {n.removeprefix("module."): v for n, v in read_pickle(require_weights(card, settings)).items()}
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise Misconfigured("unsupported_model", f"{card.file} does not contain {card.name}.") from error
    return module.eval()
