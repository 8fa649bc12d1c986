"""Faces: which of them are photographed, aligning them, and inserting restored ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.pictures.picture import Picture, Pixels

Floats = npt.NDArray[np.float32]

FACE_SIDE_PIXELS: Final = 512
"""Side of an aligned face."""
_TEMPLATE_POINTS: Final = np.array(
    [[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935], [201.26117, 371.41043], [313.08905, 371.15118]],
    dtype=np.float32,
)  # fmt: skip
"""Position of eyes, nose and corners of the mouth in an aligned face of FFHQ, on which GFPGAN was trained."""
_MIN_OVERLAP: Final = 0.3
"""Minimum intersection over union of two detections of the same face."""
_YUNET_SCORE: Final = 0.7
_MAX_DETECTION_SIDE: Final = 1600
"""Pictures are reduced to this side, in pixels, for detection."""
_FADE_PIXELS: Final = 24
"""Width of the border, in pixels of an aligned face, over which it fades into the picture."""


@dataclass(frozen=True)
class Face:
    """A face in a picture."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom, in pixels."""
    points: Floats
    """5x2: eyes, nose, corners of the mouth."""


@dataclass(frozen=True)
class FaceClassifier:
    """Two detectors that together distinguish photographed from drawn faces."""

    yunet: Path
    """Weights of the detector of photographed faces."""
    cascade: Path
    """Cascade of the detector of drawn faces."""

    def find(self, picture: Picture) -> list[tuple[float, float, float, float]]:
        """The boxes (left, top, right, bottom, in pixels) of all faces that one of the detectors finds."""
        image, scale = _reduce(picture)
        found = (*self._detect_photographed(image), *self._detect_drawn(image))
        boxes = [tuple(side / scale for side in box) for box in found]
        return [(left, top, right, bottom) for left, top, right, bottom in boxes]

    def select_photographed(self, picture: Picture, faces: list[Face]) -> list[Face]:
        """Select the faces that the detector of photographed faces finds and the detector of drawn faces does not."""
        if not faces:
            return []
        image, scale = _reduce(picture)
        real, drawn = self._detect_photographed(image), self._detect_drawn(image)
        return [
            face
            for face in faces
            if any(_box_overlap(face.box, _scale_box(box, 1 / scale)) > _MIN_OVERLAP for box in real)
            and not any(_box_overlap(face.box, _scale_box(box, 1 / scale)) > _MIN_OVERLAP for box in drawn)
        ]

    def _detect_photographed(self, image: Pixels) -> list[tuple[float, float, float, float]]:
        height, width = image.shape[:2]
        detector = cv2.FaceDetectorYN.create(str(self.yunet), "", (width, height), _YUNET_SCORE)
        _, found = detector.detect(image)
        return [] if found is None else [(x, y, x + w, y + h) for x, y, w, h in found[:, :4].tolist()]

    def _detect_drawn(self, image: Pixels) -> list[tuple[float, float, float, float]]:
        cascade = cv2.CascadeClassifier(str(self.cascade))
        gray = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        found = cascade.detectMultiScale(gray, scaleFactor=1.1, minNeighbors=5, minSize=(24, 24))
        return [(x, y, x + w, y + h) for x, y, w, h in np.asarray(found, dtype=float).reshape(-1, 4).tolist()]


def _reduce(picture: Picture) -> tuple[Pixels, float]:
    """A picture in the size and the order of channels of the detectors, and its scale."""
    scale = min(1.0, _MAX_DETECTION_SIDE / max(picture.size))
    image = cv2.resize(_to_bgr(picture), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(image, dtype=np.uint8), scale


def align_face(picture: Picture, face: Face) -> tuple[Pixels, Floats]:
    """Rotate and scale a face to SIDExSIDEx3. Return it with the 2x3 matrix of the transformation."""
    matrix, _ = cv2.estimateAffinePartial2D(face.points, _TEMPLATE_POINTS, method=cv2.LMEDS)
    colour = picture.rgb()
    crop = cv2.warpAffine(
        colour,
        matrix,
        (FACE_SIDE_PIXELS, FACE_SIDE_PIXELS),
        borderMode=cv2.BORDER_REFLECT_101,
        flags=cv2.INTER_LINEAR,
    )
    return np.asarray(crop, dtype=np.uint8), np.asarray(matrix, dtype=np.float32)


def insert_face(pixels: Pixels, better: Pixels, matrix: Floats, skin: Floats) -> Pixels:
    """Replace a face by its restored version. It fades in where the parser sees a face.

    Args:
        pixels: HxWx3.
        better: SIDExSIDEx3, the restored face, aligned as by `align_face`.
        matrix: The matrix from `align_face`.
        skin: SIDExSIDE in [0, 1], 1 inside the face.
    """
    height, width = pixels.shape[:2]
    weight = cv2.GaussianBlur(skin, (0, 0), _FADE_PIXELS / 3)
    weight[:_FADE_PIXELS], weight[-_FADE_PIXELS:], weight[:, :_FADE_PIXELS], weight[:, -_FADE_PIXELS:] = (
        0,
        0,
        0,
        0,
    )
    back = cv2.invertAffineTransform(matrix)
    drawn = cv2.warpAffine(
        better, back, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    share = cv2.warpAffine(weight, back, (width, height), flags=cv2.INTER_LINEAR)[:, :, None]
    mixed = pixels * (1 - share) + drawn * share
    return np.asarray(np.rint(np.clip(mixed, 0, 255)), dtype=np.uint8)


def _to_bgr(picture: Picture) -> Pixels:
    return np.ascontiguousarray(picture.rgb()[:, :, ::-1])


def _scale_box(box: tuple[float, ...], factor: float) -> tuple[float, ...]:
    return tuple(side * factor for side in box)


def _box_overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return both / (areas - both)
