"""Restoring photographed faces by GFPGAN; drawn ones are left alone."""

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from panelworks.domain.cards import ModelCard
from panelworks.domain.plan import Step
from panelworks.models.face_alignment import DrawnFaces, aligned, put_back
from panelworks.models.registry import card_for
from panelworks.models.weights import weights_path
from panelworks.pictures import Picture
from panelworks.settings import Settings
from panelworks.steps.base import Weighted, Work, planned_card

if TYPE_CHECKING:
    from panelworks.models.face_networks import FaceNetworks


class FaceProvider(Weighted):
    """Finds faces, asks two more detectors whether they are photographed, restores those, and says so."""

    name: Final = "face"
    packages = ("facexlib",)

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        networks = _networks(planned_card(step), work.settings)
        faces = networks.find(picture)
        photographed = _opinions(work.settings).photographed(picture, faces)
        work.note(_said(len(photographed), len(faces)))
        if not photographed:
            return picture
        pixels = picture.rgb()
        for number, face in enumerate(photographed, start=1):
            crop, matrix = aligned(picture, face)
            pixels = put_back(pixels, networks.restore(crop), matrix, networks.skin(crop))
            work.progress(number / len(photographed))
        return picture.with_rgb(pixels)


def _said(restored: int, found: int) -> str:
    if not found:
        return "no faces found"
    told = f"{restored} photographed faces restored"
    return told + (f", {found - restored} drawn or doubtful ones left alone" if found > restored else "")


@lru_cache(maxsize=1)
def _networks(card: ModelCard, settings: Settings) -> "FaceNetworks":
    from panelworks.models.face_networks import load_faces

    return load_faces(card, settings)


def _opinions(settings: Settings) -> DrawnFaces:
    return DrawnFaces(
        weights_path(card_for("yunet"), settings), weights_path(card_for("lbpcascade-animeface"), settings)
    )
