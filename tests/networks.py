"""Weight files for tests: real architectures with random weights, in their official layouts."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact

from panelworks.domain.cards import CARDS
from panelworks.models.weights import card_digest

State = dict[str, torch.Tensor]


def random_compact(path: Path, *, scale: int = 2, strength: float = 0.02, seed: int = 3) -> Path:
    """Write a weight file of a compact network whose random weights change a picture by `strength`; returns its path.

    Near zero it repeats pixels; at 1 it draws garbage.
    """
    torch.manual_seed(seed)
    network = Compact(num_feat=8, num_conv=2, upscale=scale)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    last = max(int(name.split(".")[1]) for name in state)
    state[f"body.{last}.weight"] = state[f"body.{last}.weight"] * strength
    state[f"body.{last}.bias"] = state[f"body.{last}.bias"] * strength
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"params": state}, path)
    return path


def random_rrdb(path: Path, *, blocks: int = 2, scale: int = 4, features: int = 64, seed: int = 4) -> Path:
    """Write the weights of an RRDBNet in Real-ESRGAN's layout, under `params_ema`; returns the path."""
    generator = torch.Generator().manual_seed(seed)
    grow = features // 2
    shapes = {"conv_first": (features, 3 * (4 // scale) ** 2)}
    for block in range(blocks):
        for dense in (1, 2, 3):
            for number in range(1, 6):
                out = features if number == 5 else grow
                shapes[f"body.{block}.rdb{dense}.conv{number}"] = (out, features + (number - 1) * grow)
    shapes |= dict.fromkeys(("conv_body", "conv_up1", "conv_up2", "conv_hr"), (features, features))
    shapes["conv_last"] = (3, features)
    state: State = {}
    for place, (out, inside) in shapes.items():
        weight = torch.randn(out, inside, 3, 3, generator=generator)
        state[f"{place}.weight"] = weight * (2 / (9 * inside)) ** 0.5
        state[f"{place}.bias"] = torch.randn(out, generator=generator) * 0.05
    state["conv_last.bias"] += 0.5
    torch.save({"params_ema": state}, path)
    return path


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, path: Path) -> None:
    """Register this file for a model: its name, size and hash replace those of the card until the test ends."""
    card, status = CARDS[name], path.stat()
    digest = _digest_of(path, status.st_size, status.st_mtime_ns)
    known = {"file": path.name, "sha256": digest, "bytes": status.st_size}
    monkeypatch.setitem(CARDS, name, card.model_copy(update=known))


@functools.lru_cache(maxsize=32)
def _digest_of(path: Path, size: int, modified_ns: int) -> str:
    return card_digest(path)


def write_pair(folder: Path, name: str, state: dict[str, Any], *, half: bool = True) -> Path:
    """Write a state dict as an ncnn pair, the format of Upscayl; returns the path of the .param file."""
    lines, blobs = [], []
    for kind, place in _layers(list(state)):
        weight = np.asarray(state[f"{place}.weight"], dtype=np.float32)
        if kind == "PReLU":
            lines.append(f"PReLU {place} 1 1 a b 0={weight.size}")
            blobs.append(weight.tobytes())
            continue
        if kind == "Deconvolution":
            weight = weight.transpose(1, 0, 2, 3)
        out, side = weight.shape[0], weight.shape[2]
        if kind == "InnerProduct":
            lines.append(f"InnerProduct {place} 1 1 a b 0={out} 1=1 2={weight.size} 9=1")
        else:
            lines.append(
                f"{kind} {place} 1 1 a b 0={out} 1={side} 4=1 5=1 6={weight.size} 9=2 -23310=1,2.0e-01"
            )
        blobs.append(_stored(weight, half))
        blobs.append(np.asarray(state[f"{place}.bias"], dtype=np.float32).tobytes())
    (folder / f"{name}.param").write_text(
        "\n".join(["7767517", f"{len(lines) + 1} {len(lines) + 2}", "Input in 0 1 data", *lines, ""])
    )
    (folder / f"{name}.bin").write_bytes(b"".join(blobs))
    return folder / f"{name}.param"


def _stored(weight: np.ndarray[Any, np.dtype[np.float32]], half: bool) -> bytes:
    if not half:
        return bytes(4) + weight.tobytes()
    data = weight.astype("<f2").tobytes()
    return (0x01306B47).to_bytes(4, "little") + data + bytes(-len(data) % 4)


def _layers(names: list[str]) -> Iterator[tuple[str, str]]:
    places = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    for place in places:
        if f"{place}.bias" not in names:
            yield "PReLU", place
        elif "seblock" in place:
            yield "InnerProduct", place
        elif place.endswith("_up") or place == "unet1.conv_bottom":
            yield "Deconvolution", place
        else:
            yield "Convolution", place
