"""Train the bundled 2x network and write it as fp16 safetensors.

    python -m training.train --pages PAGES_DIR --out panelworks/models/bundled/panelworks-2x.safetensors

Deterministic for a seed up to the arithmetic of the machine. Interrupt it when you like: the best
averaged weights so far are written every 250 steps.
"""

import argparse
import time
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from spandrel.architectures.Compact import Compact

from training.corpus import Page, crop, draw_pages, read_pages
from training.degrade import degrade

PATCH = 96
"""Side of a clean training patch in pixels; the network sees half of it."""
AVERAGING = 0.998
"""Decay of the moving average of the weights, whose end is what ships."""


def batch_of(
    pages: list[Page], count: int, random: Random, worn_share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` pairs (worn Nx3x48x48, clean Nx3x96x96), float32 in [0, 1]."""
    worn, clean = [], []
    for _ in range(count):
        target = crop(random.choice(pages), PATCH, random)
        if random.random() < 0.12:
            target = np.repeat(target.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
        target = np.rot90(target, random.randint(0, 3))
        if random.random() < 0.5:
            target = target[:, ::-1]
        target = np.ascontiguousarray(target)
        worn.append(degrade(target, random, worn_share))
        clean.append(target)
    return _tensor(worn), _tensor(clean)


def _tensor(patches: list[npt.NDArray[np.uint8]]) -> torch.Tensor:
    stacked = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).float() / 255
    return stacked.contiguous(memory_format=torch.channels_last)


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    random = Random(args.seed)
    device = torch.device(args.device)
    fonts = tuple(sorted(args.fonts.glob("**/*.[ot]tf"))) if args.fonts else ()
    drawings = draw_pages(args.drawings, args.seed, fonts)
    pages = read_pages(args.pages, held_out=False) if args.pages else []
    print(f"{len(pages)} pages, {len(drawings)} drawings", flush=True)
    network = Compact(num_feat=args.features, num_conv=args.convolutions, upscale=2)
    if args.start:
        network.load_state_dict({name: value.float() for name, value in load_file(args.start).items()})
    network = network.to(device, memory_format=torch.channels_last)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.Adam(network.parameters(), lr=args.rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, args.rate, total_steps=args.steps, pct_start=0.08, final_div_factor=200
    )
    began, losses = time.monotonic(), []
    for step in range(1, args.steps + 1):
        pool = drawings if not pages or random.random() < args.drawn_share else pages
        worn, clean = batch_of(pool, args.batch, random, args.worn_share)
        difference = network(worn.to(device)) - clean.to(device)
        loss = torch.sqrt(difference * difference + 1e-6).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        decay = min(AVERAGING, step / (step + 20))
        for name, value in network.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        if step % 250 == 0 or step == args.steps:
            recent = sum(losses[-250:]) / len(losses[-250:])
            print(f"step {step} loss {recent:.5f} {time.monotonic() - began:.0f} s", flush=True)
            args.out.parent.mkdir(parents=True, exist_ok=True)
            halves = {name: value.cpu().half().contiguous() for name, value in average.items()}
            save_file(halves, args.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=Path, help="folder of pages with a manifest.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fonts", type=Path, help="folder of fonts for the lettering")
    parser.add_argument("--drawings", type=int, default=120)
    parser.add_argument("--drawn-share", type=float, default=0.3, dest="drawn_share")
    parser.add_argument("--worn-share", type=float, default=0.6, dest="worn_share")
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--features", type=int, default=48)
    parser.add_argument("--convolutions", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
