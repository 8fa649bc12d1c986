"""Train the bundled 2x network and write it as fp16 safetensors.

    nice -n 19 python -m training.train --pages PAGES --pages CORPUS --store STORE --state run.pt --minutes 60 --out net.safetensors

A training takes longer than one sitting. It stores its state in a file (`--state`) every few minutes and at the end, and goes
on from it when it is started again: weights, their moving average, the optimiser, the steps so far. Each sitting is one cycle
of the learning rate, which falls to zero within the minutes that it is given. Ctrl-C ends a sitting; nothing but the last
minutes is lost.
"""

import argparse
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

import torch
from safetensors.torch import load_file, save_file

from training.corpus import Page, draw_pages, read_folder, read_pages
from training.growth import Weights, grow_weights
from training.networks import Design, collapse_weights, make_network
from training.patches import Batches, Pair, load_ahead

AVERAGING_DECAY: Final = 0.999
"""Decay of the moving average of the weights. The final average is the released network."""
_WARM_UP_SHARE: Final = 0.03
"""Share of a sitting in which the learning rate rises. It then falls along a cosine."""
_SQUARED_SHARE: Final = 0.12
"""Share of a sitting, at its end, in which the squared error is minimised: PSNR counts it, and the rate is low by then."""
_LUMA_WEIGHTS: Final = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
"""Rec. 601."""
_SQUARED_WEIGHT: Final = 20.0
"""Brings the gradient of the squared error to the size of that of the Charbonnier loss at an error of about 0.03."""
_REPORTED_STEPS: Final = 100
_STORE_SECONDS: Final = 180.0


@dataclass
class Sitting:
    """What one call of the trainer was given and has done."""

    minutes: float
    steps: int
    began: float = field(default_factory=time.monotonic)
    step: int = 0
    waited: float = 0.0
    """Seconds in which the network waited for data."""
    is_stopped: bool = False

    @property
    def seconds(self) -> float:
        """Seconds since the first batch was asked for."""
        return time.monotonic() - self.began

    @property
    def share(self) -> float:
        """The finished share, by steps or by minutes, whichever ends first; 1 at the end."""
        return min(1.0, max(self.step / self.steps, self.seconds / (self.minutes * 60)))


def learning_rate(share: float, highest: float) -> float:
    """The learning rate when `share` of a sitting is finished."""
    if share < _WARM_UP_SHARE:
        return highest * (0.05 + 0.95 * share / _WARM_UP_SHARE)
    return highest * (
        0.003 + 0.997 * 0.5 * (1 + math.cos(math.pi * (share - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE)))
    )


def compute_loss(output: torch.Tensor, clean: torch.Tensor, *, squared: bool = False) -> torch.Tensor:
    """Compute the Charbonnier loss, or the squared error, of the channels and of the brightness, which contains the lines."""
    difference = output - clean
    brightness = (difference * _LUMA_WEIGHTS.to(difference)).sum(dim=1)
    if squared:
        return _SQUARED_WEIGHT * ((difference * difference).mean() + (brightness * brightness).mean())
    colour_loss = torch.sqrt(difference * difference + 1e-6).mean()
    return colour_loss + torch.sqrt(brightness * brightness + 1e-6).mean()


class Trainer:
    """A network, its moving average and its optimiser."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self.network = make_network(args.design, args.features, args.convolutions)
        self.network.to(torch.device(args.device), memory_format=torch.channels_last)
        self._forward = torch.compile(self.network) if args.compile else self.network
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=0
        )
        self.average = _copy(self.network.state_dict())
        self.steps = self.pixels = self.sittings = 0
        if args.state.exists():
            self._resume(torch.load(args.state, map_location=args.device, weights_only=True))
        elif args.start:
            self.network.load_state_dict(grow_weights(load_file(args.start), self.network.state_dict()))
            self.average = _copy(self.network.state_dict())

    def _resume(self, state: dict[str, Any]) -> None:
        if state["shape"] != self._shape:
            raise SystemExit(
                f"{self._args.state} is of another network ({state['shape']}): name another --state, or these sizes."
            )
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self._optimiser.load_state_dict(state["optimiser"])
        self.steps, self.pixels, self.sittings = state["steps"], state["pixels"], state["sittings"]

    @property
    def _shape(self) -> list[Any]:
        return [self._args.design, self._args.features, self._args.convolutions]

    def take_step(self, pair: Pair, share: float) -> float:
        """Take a step with uint8 pairs (NxSxSx3, Nx2Sx2Sx3); returns the loss."""
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(share, self._args.rate)
        degraded, clean = (
            bytes_.to(self._args.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
            for bytes_ in pair
        )
        with torch.autocast(self._args.device, torch.bfloat16, enabled=self._args.bf16):
            output = self._forward(degraded)
        loss = compute_loss(output.float(), clean, squared=share > 1 - _SQUARED_SHARE)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 0.5)
        self._optimiser.step()
        self.steps += 1
        self.pixels += degraded.shape[0] * degraded.shape[2] * degraded.shape[3]
        decay = min(AVERAGING_DECAY, self.steps / (self.steps + 20))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)
        return float(loss.detach())

    def store(self) -> None:
        """Write the state and the averaged network. A file is complete or the former one: each is renamed."""
        state = {
            "shape": self._shape, "network": self.network.state_dict(), "average": self.average,
            "optimiser": self._optimiser.state_dict(), "steps": self.steps, "pixels": self.pixels,
            "sittings": self.sittings,
        }  # fmt: skip
        unfinished = self._args.state.with_suffix(".new")
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, unfinished)
        unfinished.rename(self._args.state)
        collapsed = collapse_weights(self.network, self.average)
        halves = {name: value.cpu().half().contiguous() for name, value in collapsed.items()}
        self._args.out.parent.mkdir(parents=True, exist_ok=True)
        save_file(halves, self._args.out)


def _copy(weights: Weights) -> Weights:
    return {name: value.detach().clone() for name, value in weights.items()}


def read_pictures(args: argparse.Namespace, seed: int) -> list[Page]:
    """The pictures of all folders, and drawings that differ from sitting to sitting."""
    fonts = tuple(sorted(args.fonts.glob("**/*.[ot]tf"))) if args.fonts else ()
    pages = draw_pages(args.drawings, seed, fonts)
    for folder in args.clipart:
        pages += read_folder(folder)
    for folder in args.pages:
        pages += read_pages(folder, held_out=False, store=args.store)
    return pages


def train(args: argparse.Namespace) -> None:
    """Train for one sitting. Progress is printed every 100 steps."""
    torch.set_num_threads(args.threads)
    trainer = Trainer(args)
    seed = args.seed + trainer.sittings
    torch.manual_seed(seed)
    pages = read_pictures(args, seed)
    print(
        f"{len(pages)} pictures, step {trainer.steps}, {trainer.pixels / 1e9:.3f} billion pixels so far",
        flush=True,
    )
    pairs = load_ahead(Batches(pages, args.batch, args.patch, seed), args.processes)
    sitting = Sitting(args.minutes, args.steps)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(sitting, "is_stopped", True))
    trainer.sittings += 1
    _run_sitting(trainer, sitting, pairs)
    trainer.store()


def _run_sitting(trainer: Trainer, sitting: Sitting, pairs: Iterator[Pair]) -> None:
    losses, stored, start_pixels = list[float](), time.monotonic(), trainer.pixels
    while (share := sitting.share) < 1 and not sitting.is_stopped:
        asked = time.monotonic()
        pair = next(pairs)
        sitting.waited += time.monotonic() - asked
        losses.append(trainer.take_step(pair, share))
        sitting.step += 1
        if sitting.step % _REPORTED_STEPS == 0:
            speed = (trainer.pixels - start_pixels) / sitting.seconds / 1e6
            print(
                f"step {trainer.steps}: loss {sum(losses) / len(losses):.5f}, {share:.0%} of this sitting,"
                f" {speed:.2f} million pixels a second, waited {sitting.waited / sitting.seconds:.0%}",
                flush=True,
            )
            losses.clear()
        if time.monotonic() - stored > _STORE_SECONDS:
            trainer.store()
            stored = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pages", type=Path, action="append", default=[], help="folder of pages with a manifest.json"
    )
    parser.add_argument("--clipart", type=Path, action="append", default=[], help="folder of PNG files")
    parser.add_argument(
        "--store", type=Path, help="folder for the decoded pages, so that processes share them"
    )
    parser.add_argument("--out", type=Path, required=True, help="the averaged network, fp16 safetensors")
    parser.add_argument(
        "--state", type=Path, help="where the training goes on; OUT with the ending .state by default"
    )
    parser.add_argument("--fonts", type=Path, help="folder of fonts for the lettering")
    parser.add_argument("--drawings", type=int, default=120)
    parser.add_argument(
        "--start", type=Path, help="weights to begin with, of this network or a smaller one, without a state"
    )
    parser.add_argument("--design", choices=get_args(Design), default="plain")
    parser.add_argument("--features", type=int, default=48)
    parser.add_argument("--convolutions", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10_000_000, help="maximum steps of this sitting")
    parser.add_argument("--minutes", type=float, default=math.inf, help="minutes of this sitting")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=64, help="side of a patch of the small page")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1, help="processes that make the pairs")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16 where possible")
    parser.add_argument(
        "--compile", action="store_true", help="compile the network with torch; needs a compiler"
    )
    args = parser.parse_args()
    args.state = args.state or args.out.with_suffix(".state")
    train(args)


if __name__ == "__main__":
    main()
