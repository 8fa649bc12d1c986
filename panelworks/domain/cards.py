"""Actions that a step can perform, and the cards of the known models: official files with hashes, licences and purposes.

A new model is one row of the table."""

import hashlib
from pathlib import Path
from typing import Any, Final, Literal, get_args

from panelworks.domain.fields import Frozen

Action = Literal[
    "inpaint",
    "gray",
    "fix_artifacts",
    "descreen",
    "denoise",
    "levels",
    "upscale",
    "enhance",
    "resize",
    "face",
    "colour",
    "rembg",
]
"""An action that a step performs on a picture."""
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
"""All actions, in the order in which a plan performs them."""
ENLARGING: Final[frozenset[Action]] = frozenset({"upscale", "enhance", "resize"})
"""Actions that change the size of a picture."""
DELIBERATE: Final[frozenset[Action]] = frozenset(
    {"inpaint", "gray", "descreen", "levels", "face", "colour", "rembg"}
)
"""Actions that change the content of a page deliberately: validation does not count their changes as errors."""
Architecture = Literal["compact", "rrdb", "cugan", "gfpgan", "aura", "onnx", "metric", "part", "any"]
"""`any`: read from the file, for files named by path; `part`: a file that another model needs; `metric`: it scores pictures."""


class ModelCard(Frozen):
    """Description of a model, known before its weights are opened."""

    name: str
    file: str
    """Name of the weight file in MODEL_PATH and in the cache."""
    url: str | None
    """Address of the published file; None: bundled, the user's own file, or not available for download."""
    sha256: str
    """Of the file; empty if none is published: then the hash of the first file that is found is recorded and required."""
    bytes: int
    scale: int | None
    """Enlargement factor; None: known only after the file is opened."""
    architecture: Architecture
    licence: str
    attribution: str
    purpose: str
    actions: frozenset[Action] = frozenset({"upscale"})
    """Actions it can perform."""
    provider: str = "network"
    """Name of the provider that runs it."""
    parts: tuple[str, ...] = ()
    """Names of the cards of further files that it needs."""
    partner: str | None = None
    """Name of the card whose weights are blended with these in proportion to `denoise`."""
    path: Path | None = None
    """Path of the file, if it is already known."""


_REAL_ESRGAN: Final = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_GFPGAN: Final = "https://github.com/TencentARC/GFPGAN/releases/download/v1.3.0"
_FACEXLIB: Final = "https://github.com/xinntao/facexlib/releases/download"
_REMBG: Final = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
_HUB: Final = "https://huggingface.co"
BUNDLED: Final = "panelworks-2x"
"""Name of the network that is part of the package."""
_FACE: Final[frozenset[Action]] = frozenset({"face"})
_REMOVE: Final[frozenset[Action]] = frozenset({"rembg"})


def _bundled() -> ModelCard:
    path = Path(__file__).parents[1] / "models" / "bundled" / f"{BUNDLED}.safetensors"
    data = path.read_bytes()
    return ModelCard(
        name=BUNDLED,
        file=path.name,
        url=None,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        scale=2,
        architecture="compact",
        licence="Apache-2.0",
        attribution="Panelworks; trained on openly licensed pages named in NOTICE",
        purpose="drawn pages; the default, needs no download",
        path=path,
    )


def _esrgan(name: str, version: str, size: int, sha256: str, scale: int, **more: Any) -> ModelCard:
    return ModelCard(
        name=name.lower(), file=f"{name}.pth", url=f"{_REAL_ESRGAN}/{version}/{name}.pth", sha256=sha256, bytes=size,
        scale=scale, licence="BSD-3-Clause", attribution="Real-ESRGAN by Xintao Wang et al.", **more,
    )  # fmt: skip


def _opencomic(
    name: str, file: str, size: int, sha256: str, scale: int, purpose: str, action: Action
) -> ModelCard:
    return ModelCard(
        name=name, file=f"opencomic-ai-{file}-compact-450000.pth", url=None, sha256=sha256, bytes=size, scale=scale,
        architecture="compact", licence="CC BY 4.0", attribution="OpenComic AI by Oleguer Llopart Mora",
        purpose=purpose, actions=frozenset({action}),
    )  # fmt: skip


def _gfpgan(version: str, sha256: str) -> ModelCard:
    return ModelCard(
        name=f"gfpgan-{version}", file=f"GFPGANv{version}.pth", url=f"{_GFPGAN}/GFPGANv{version}.pth", sha256=sha256,
        bytes=348_632_874, scale=1, architecture="gfpgan",
        licence="Apache-2.0 without its StyleGAN2 parts (NVIDIA, non-commercial) and DFDNet (CC BY-NC-SA)",
        attribution="GFPGAN by Xintao Wang et al.", purpose="photographic faces; drawn faces are not changed",
        actions=_FACE, provider="face",
        parts=("retinaface-resnet50", "parsing-parsenet", "yunet", "lbpcascade-animeface"),
    )  # fmt: skip


def _part(
    name: str, url: str, size: int, sha256: str, licence: str, attribution: str, purpose: str
) -> ModelCard:
    return ModelCard(
        name=name, file=url.rpartition("/")[2], url=url, sha256=sha256, bytes=size, scale=None, architecture="part",
        licence=licence, attribution=attribution, purpose=purpose, actions=frozenset(), provider="face",
    )  # fmt: skip


def _metric(name: str, file: str, size: int, parts: tuple[str, ...] = ()) -> ModelCard:
    return ModelCard(
        name=name, file=file, url=f"{_HUB}/chaofengc/IQA-PyTorch-Weights/resolve/main/{file}", sha256="", bytes=size,
        scale=None, architecture="metric", licence="PolyForm Noncommercial 1.0.0", attribution="IQA-PyTorch by Chaofeng Chen",
        purpose="scores pictures like photographs; shown, not part of the score", actions=frozenset(), provider="quality",
        parts=parts,
    )  # fmt: skip


def _cutout(name: str, size: int, sha256: str, purpose: str) -> ModelCard:
    return ModelCard(
        name=name, file=f"{name}.onnx", url=f"{_REMBG}/{name}.onnx", sha256=sha256, bytes=size, scale=1,
        architecture="onnx", licence="Apache-2.0", attribution="rembg by Daniel Gatis; anime-seg by SkyTNT",
        purpose=purpose, actions=_REMOVE, provider="rembg",
    )  # fmt: skip


_ALL: Final = (
    _bundled(),
    _esrgan(
        "RealESRGAN_x2plus", "v0.2.1", 67_061_725,
        "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb", 2,
        architecture="rrdb", purpose="photographs and painted pages, 2x; slow without a GPU",
    ),
    _esrgan(
        "RealESRGAN_x4plus", "v0.1.0", 67_040_989,
        "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1", 4,
        architecture="rrdb", purpose="photographs and painted pages, 4x; slow without a GPU",
    ),
    _esrgan(
        "RealESRGAN_x4plus_anime_6B", "v0.2.2.4", 17_938_799,
        "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da", 4,
        architecture="rrdb", purpose="anime illustrations, 4x",
    ),
    _esrgan(
        "realesr-animevideov3", "v0.2.5.0", 2_504_012,
        "b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d", 4,
        architecture="compact", purpose="drawn content, 4x, small and fast",
    ),
    _esrgan(
        "realesr-general-x4v3", "v0.2.5.0", 4_885_111,
        "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292", 4,
        architecture="compact", purpose="general pictures, 4x, small; denoises strongly, less with --denoise",
        actions=frozenset({"upscale", "denoise"}), partner="realesr-general-wdn-x4v3",
    ),
    _esrgan(
        "realesr-general-wdn-x4v3", "v0.2.5.0", 4_885_111,
        "1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca", 4,
        architecture="compact", purpose="general pictures, 4x, denoises weakly",
    ),
    ModelCard(
        name="realcugan-2x-conservative", file="realcugan-se_up2x-conservative.from-ncnn-fp16.pth", url=None,
        sha256="55c4c3c544728b1a4784d01877d8a6bfdd8b78b17fdcf5a82c96419902b6aeef", bytes=5_159_147, scale=2,
        architecture="cugan", licence="MIT", attribution="Real-CUGAN by bilibili; ncnn files by nihui",
        purpose="anime illustrations, 2x, close to the source",
    ),
    _opencomic(
        "opencomic-2x", "upscale-2x", 2_420_457,
        "01bf02db6dafa63600ba9a278a9444bbdadff7f7b6d22bd978ea904b8fec58a4", 2, "comics, 2x", "upscale",
    ),
    _opencomic(
        "opencomic-4x", "upscale-4x", 2_503_529,
        "1d4f747c9026916424d28246431085e523867585fd8f90a185f6f5bbc3f582f8", 4, "comics, 4x", "upscale",
    ),
    _opencomic(
        "opencomic-artifact-removal", "artifact-removal", 2_400_011,
        "782466fd484690177029d07179efb53b2293645ac466ad8b5fbc02d22c1a423b", 1, "JPEG artifacts", "fix_artifacts",
    ),
    _opencomic(
        "opencomic-descreen", "descreen-hard", 2_399_834,
        "93c27dbe879e5b3a340487c0ff2ac8a9ec73ace342e50fc2ec4d70b8fe2dfb49", 1,
        "printed halftone becomes tone; screentone too, which is art", "descreen",
    ),
    ModelCard(
        name="aura-sr-v2", file="aura-sr-v2.safetensors", url=f"{_HUB}/fal/AuraSR-v2/resolve/main/model.safetensors",
        sha256="", bytes=2_470_000_000, scale=4, architecture="aura", licence="Apache-2.0",
        attribution="AuraSR by fal", purpose="generated pictures, 4x, draws new detail; very slow without a GPU",
        actions=frozenset({"upscale", "enhance"}), provider="aura", parts=("aura-sr-v2-config",),
    ),
    ModelCard(
        name="aura-sr-v2-config", file="aura-sr-v2.json", url=f"{_HUB}/fal/AuraSR-v2/resolve/main/config.json",
        sha256="", bytes=1_000, scale=None, architecture="part", licence="Apache-2.0", attribution="AuraSR by fal",
        purpose="configuration of aura-sr-v2", actions=frozenset(), provider="aura",
    ),
    _gfpgan("1.4", "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad"),
    _gfpgan("1.3", "c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70"),
    _part(
        "retinaface-resnet50", f"{_FACEXLIB}/v0.1.0/detection_Resnet50_Final.pth", 109_497_761,
        "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d", "MIT", "facexlib", "finds faces",
    ),
    _part(
        "retinaface-mobilenet", f"{_FACEXLIB}/v0.1.0/detection_mobilenet0.25_Final.pth", 1_789_735,
        "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220", "MIT", "facexlib", "finds faces, small",
    ),
    _part(
        "parsing-parsenet", f"{_FACEXLIB}/v0.2.2/parsing_parsenet.pth", 85_331_193,
        "3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2", "MIT", "facexlib",
        "segments a face, so that it is pasted back without a border",
    ),
    _part(
        "yunet", f"{_HUB}/opencv/face_detection_yunet/resolve/main/face_detection_yunet_2023mar.onnx", 232_589,
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4", "MIT", "YuNet by Shiqi Yu",
        "finds photographic faces",
    ),
    _part(
        "lbpcascade-animeface",
        "https://raw.githubusercontent.com/nagadomi/lbpcascade_animeface/master/lbpcascade_animeface.xml", 246_945,
        "9376d30ac38db6bda2a68b88b3b76bbd7e6aa33af47f7f5c76bc88ca75f1ce30", "MIT", "nagadomi", "finds drawn faces",
    ),
    _cutout(
        "isnet-anime", 176_069_933, "f15622d853e8260172812b657053460e20806f04b9e05147d49af7bed31a6e99",
        "cuts drawn figures out",
    ),
    _cutout(
        "isnet-general-use", 178_648_008, "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
        "cuts photographed things out",
    ),
    _cutout(
        "u2net", 175_997_641, "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
        "cuts photographed things out, the classic",
    ),
    _cutout(
        "u2netp", 4_574_861, "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
        "cuts things out of a calm background, small",
    ),
    _metric("musiq", "musiq_koniq_ckpt-e95806b9.pth", 108_000_000),
    _metric("topiq_nr", "cfanet_nr_koniq_res50-9a73138b.pth", 180_000_000),
    _metric("cnniqa", "CNNIQA_koniq10k-e6f14c91.pth", 2_900_000),
    _metric("niqe", "niqe_modelparameters.mat", 10_000),
    _metric("brisque", "brisque_svm_weights.pth", 115_000),
    _metric("clipiqa+", "CLIP-IQA+_learned_prompts-603f3273.pth", 34_000, ("clip-rn50",)),
    ModelCard(
        name="clip-rn50", file="RN50.pt", scale=None, bytes=256_000_000, architecture="part", licence="MIT",
        url="https://openaipublic.azureedge.net/clip/models/afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt",
        sha256="afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762", attribution="CLIP by OpenAI",
        purpose="image encoder of clipiqa+", actions=frozenset(), provider="quality",
    ),
)  # fmt: skip
CARDS: Final[dict[str, ModelCard]] = {card.name: card for card in _ALL}
"""Every model known by name."""
