"""Faces: which there are, which of them are photographed, and putting a better one back in its place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.pictures.picture import Picture, Pixels

Floats = npt.NDArray[np.float32]

SIDE: Final = 512
"""Side of an aligned face, in pixels."""
_TEMPLATE: Final = np.array(
    [[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935], [201.26117, 371.41043], [313.08905, 371.15118]],
    dtype=np.float32,
)  # fmt: skip
"""Where eyes, nose and corners of the mouth lie in an aligned face: those of FFHQ, which GFPGAN was trained on."""
_AGREE: Final = 0.3
"""Overlap, as intersection over union, from which two detectors mean the same face."""
_YUNET_SCORE: Final = 0.7
_LONGEST: Final = 1600
"""Longest side, in pixels, at which faces are looked for."""
_BORDER: Final = 24
"""Width, in pixels of an aligned face, over which it fades into the picture."""


@dataclass(frozen=True)
class Face:
    """A face in a picture."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom, in pixels."""
    points: Floats
    """5x2: eyes, nose, corners of the mouth."""


@dataclass(frozen=True)
class DrawnFaces:
    """The two opinions that tell a drawn face from a photographed one."""

    yunet: Path
    """Weights of a detector of photographed faces."""
    cascade: Path
    """Cascade of a detector of drawn faces."""

    def photographed(self, picture: Picture, faces: list[Face]) -> list[Face]:
        """Those faces that the detector of photographs finds too, and the detector of drawings does not."""
        if not faces:
            return []
        scale = min(1.0, _LONGEST / max(picture.size))
        image = np.asarray(
            cv2.resize(_bgr(picture), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8
        )
        real, drawn = self._real(image), self._drawn(image)
        return [
            face
            for face in faces
            if any(_overlap(face.box, _scaled(box, 1 / scale)) > _AGREE for box in real)
            and not any(_overlap(face.box, _scaled(box, 1 / scale)) > _AGREE for box in drawn)
        ]

    def _real(self, image: Pixels) -> list[tuple[float, float, float, float]]:
        height, width = image.shape[:2]
        detector = cv2.FaceDetectorYN.create(str(self.yunet), "", (width, height), _YUNET_SCORE)
        _, found = detector.detect(image)
        return [] if found is None else [(x, y, x + w, y + h) for x, y, w, h in found[:, :4].tolist()]

    def _drawn(self, image: Pixels) -> list[tuple[float, float, float, float]]:
        cascade = cv2.CascadeClassifier(str(self.cascade))
        gray = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        found = cascade.detectMultiScale(gray, scaleFactor=1.1, minNeighbors=5, minSize=(24, 24))
        return [(x, y, x + w, y + h) for x, y, w, h in np.asarray(found, dtype=float).reshape(-1, 4).tolist()]


def aligned(picture: Picture, face: Face) -> tuple[Pixels, Floats]:
    """The face turned upright, SIDExSIDEx3, and the 2x3 matrix that took it there."""
    matrix, _ = cv2.estimateAffinePartial2D(face.points, _TEMPLATE, method=cv2.LMEDS)
    colour = picture.rgb()
    crop = cv2.warpAffine(
        colour, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101, flags=cv2.INTER_LINEAR
    )
    return np.asarray(crop, dtype=np.uint8), np.asarray(matrix, dtype=np.float32)


def put_back(pixels: Pixels, better: Pixels, matrix: Floats, skin: Floats) -> Pixels:
    """The picture with a better face in place of the old one, faded in where the parser sees a face.

    Args:
        pixels: HxWx3.
        better: SIDExSIDEx3, the face as `aligned` gave it.
        matrix: What `aligned` gave with it.
        skin: SIDExSIDE in [0, 1], 1 where the face is.
    """
    height, width = pixels.shape[:2]
    weight = cv2.GaussianBlur(skin, (0, 0), _BORDER / 3)
    weight[:_BORDER], weight[-_BORDER:], weight[:, :_BORDER], weight[:, -_BORDER:] = 0, 0, 0, 0
    back = cv2.invertAffineTransform(matrix)
    drawn = cv2.warpAffine(
        better, back, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    share = cv2.warpAffine(weight, back, (width, height), flags=cv2.INTER_LINEAR)[:, :, None]
    mixed = pixels * (1 - share) + drawn * share
    return np.asarray(np.rint(np.clip(mixed, 0, 255)), dtype=np.uint8)


def _bgr(picture: Picture) -> Pixels:
    return np.ascontiguousarray(picture.rgb()[:, :, ::-1])


def _scaled(box: tuple[float, ...], factor: float) -> tuple[float, ...]:
    return tuple(side * factor for side in box)


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return both / (areas - both)
