"""Train the bundled 2x network and write it as fp16 safetensors.

    python -m training.train --pages PAGES_DIR --out panelworks/models/bundled/panelworks-2x.safetensors

The result is deterministic for a seed, apart from the arithmetic of the machine, unless the time limit (`--minutes`)
ends the training. It can be interrupted: the averaged weights are written every 250 steps.
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from spandrel.architectures.Compact import Compact

from training.batches import Batches, Pair, Pool, load_ahead
from training.corpus import draw_pages, read_folder, read_pages
from training.growth import grow_weights

AVERAGING_DECAY = 0.999
"""Decay of the moving average of the weights. The final average is the released network."""
_WARM_UP_SHARE = 0.03
"""Share of the training in which the learning rate rises. It then falls along a cosine."""
_LUMA_WEIGHTS = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
"""Rec. 601."""


class Clock:
    """The finished share of the training, by steps or by minutes, whichever ends first."""

    def __init__(self, steps: int, minutes: float) -> None:
        self._steps, self._seconds = steps, minutes * 60
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the training."""
        return time.monotonic() - self._began

    def share(self, step: int) -> float:
        """The finished share, 1 at the end."""
        return min(1.0, max(step / self._steps, self.elapsed / self._seconds))


def learning_rate(share: float, highest: float) -> float:
    """The learning rate when `share` of the training is finished."""
    if share < _WARM_UP_SHARE:
        return highest * (0.05 + 0.95 * share / _WARM_UP_SHARE)
    return highest * (
        0.003 + 0.997 * 0.5 * (1 + math.cos(math.pi * (share - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE)))
    )


def compute_loss(output: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Compute the Charbonnier loss of the channels plus that of brightness, which contains the lines."""
    difference = output - clean
    brightness = (difference * _LUMA_WEIGHTS.to(difference)).sum(dim=1)
    colour_loss = torch.sqrt(difference * difference + 1e-6).mean()
    return colour_loss + torch.sqrt(brightness * brightness + 1e-6).mean()


def make_network(args: argparse.Namespace) -> torch.nn.Module:
    """Make a new network, or one that continues from weights of the same or a smaller size."""
    network = Compact(num_feat=args.features, num_conv=args.convolutions, upscale=2)
    if args.start:
        network.load_state_dict(grow_weights(load_file(args.start), network.state_dict()))
    return network.to(torch.device(args.device), memory_format=torch.channels_last)  # type: ignore[no-any-return]


def make_pairs(args: argparse.Namespace) -> Iterator[Pair]:
    """Make the training pairs according to the arguments."""
    fonts = tuple(sorted(args.fonts.glob("**/*.[ot]tf"))) if args.fonts else ()
    pools = [
        Pool(draw_pages(args.drawings, args.seed, fonts), args.drawn_share),
        Pool(read_folder(args.clipart) if args.clipart else [], args.clipart_share),
        Pool(read_pages(args.pages, held_out=False) if args.pages else [], args.page_share),
    ]
    print("pages: drawn, clip art, real:", [len(pool.pages) for pool in pools], flush=True)
    return load_ahead(Batches(pools, args.batch, args.worn_share, args.seed))


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    pairs = make_pairs(args)
    network = make_network(args)
    forward = torch.compile(network) if args.compile else network
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.Adam(network.parameters(), lr=args.rate, betas=(0.9, 0.99))
    clock, losses, step = Clock(args.steps, args.minutes), list[float](), 0
    while (share := clock.share(step)) < 1:
        step += 1
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(share, args.rate)
        degraded, clean = (tensor.to(args.device, non_blocking=True) for tensor in next(pairs))
        with torch.autocast(args.device, torch.bfloat16, enabled=args.bf16):
            output = forward(degraded)
        loss = compute_loss(output.float(), clean)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimiser.step()
        losses.append(loss.item())
        decay = min(AVERAGING_DECAY, step / (step + 20))
        for name, value in network.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        if step % 250 == 0:
            print(f"step {step} loss {sum(losses[-250:]) / 250:.5f} {clock.elapsed:.0f} s", flush=True)
            _write_weights(average, args.out)
    _write_weights(average, args.out)


def _write_weights(average: dict[str, torch.Tensor], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.cpu().half().contiguous() for name, value in average.items()}, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=Path, help="folder of pages with a manifest.json")
    parser.add_argument("--clipart", type=Path, help="folder of PNG files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fonts", type=Path, help="folder of fonts for the lettering")
    parser.add_argument("--drawings", type=int, default=120)
    parser.add_argument("--drawn-share", type=float, default=0.25, dest="drawn_share")
    parser.add_argument("--clipart-share", type=float, default=0.25, dest="clipart_share")
    parser.add_argument("--page-share", type=float, default=0.5, dest="page_share")
    parser.add_argument("--worn-share", type=float, default=0.45, dest="worn_share")
    parser.add_argument(
        "--start", type=Path, help="weights to continue from, of this network or a smaller one"
    )
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--convolutions", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40_000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="maximum time of the training")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16 where possible")
    parser.add_argument(
        "--compile", action="store_true", help="compile the network with torch; needs a compiler"
    )
    train(parser.parse_args())


if __name__ == "__main__":
    main()
