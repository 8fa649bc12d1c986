"""Restoring photographed faces with GFPGAN. Drawn faces stay unchanged."""

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from panelworks.domain.cards import ModelCard
from panelworks.domain.plan import Step
from panelworks.models.face_alignment import FaceClassifier, align_face, insert_face
from panelworks.models.registry import card_for
from panelworks.models.weights import require_weights
from panelworks.pictures import Picture
from panelworks.settings import Settings
from panelworks.steps.base import WeightsProvider, Work, planned_card

if TYPE_CHECKING:
    from panelworks.models.face_networks import FaceNetworks


class FaceProvider(WeightsProvider):
    """Finds faces, selects the photographed ones with two more detectors, restores them and adds a note."""

    name: Final = "face"
    packages = ("facexlib",)

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        networks = _load_networks(planned_card(step), work.settings)
        faces = networks.find(picture)
        photographed = _load_classifier(work.settings).select_photographed(picture, faces)
        work.note(_describe_outcome(len(photographed), len(faces)))
        if not photographed:
            return picture
        pixels = picture.rgb()
        for number, face in enumerate(photographed, start=1):
            crop, matrix = align_face(picture, face)
            pixels = insert_face(pixels, networks.restore(crop), matrix, networks.skin(crop))
            work.progress(number / len(photographed))
        return picture.with_rgb(pixels)


def _describe_outcome(restored: int, found: int) -> str:
    if not found:
        return "no faces found"
    restored_text = f"{restored} photographed faces restored"
    return restored_text + (
        f", {found - restored} drawn or doubtful ones skipped" if found > restored else ""
    )


@lru_cache(maxsize=1)
def _load_networks(card: ModelCard, settings: Settings) -> "FaceNetworks":
    from panelworks.models.face_networks import load_face_networks

    return load_face_networks(card, settings)


def _load_classifier(settings: Settings) -> FaceClassifier:
    return FaceClassifier(
        require_weights(card_for("yunet"), settings),
        require_weights(card_for("lbpcascade-animeface"), settings),
    )
