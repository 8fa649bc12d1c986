"""Degradations that pages usually have: reduction, blur, noise, JPEG and WebP."""

import io
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

RESAMPLING_FILTERS = (
    *(Image.Resampling.BICUBIC,) * 7,
    *(Image.Resampling.LANCZOS,) * 2,
    Image.Resampling.BOX,
)
"""Mostly the filters of image tools. Many blurry ones would teach the network to sharpen sharp pages."""


def degrade(clean: npt.NDArray[np.uint8], random: Random, degraded_share: float) -> npt.NDArray[np.uint8]:
    """Reduce a clean HxWx3 patch, uint8, to half its size.

    A `degraded_share` of the patches may be blurred, noisy or compressed. The others are only reduced.
    """
    image = Image.fromarray(clean)
    if random.random() >= degraded_share:
        return np.asarray(
            image.resize((image.width // 2, image.height // 2), random.choice(RESAMPLING_FILTERS))
        )
    if random.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.2, 0.8)))
    small = image.resize((image.width // 2, image.height // 2), random.choice(RESAMPLING_FILTERS))
    if random.random() < 0.15:
        grain = np.random.default_rng(random.getrandbits(32)).normal(
            0, random.uniform(0.5, 4), (small.height, small.width, 1)
        )
        noisy = np.asarray(small, dtype=np.float32) + grain
        small = Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    if random.random() < 0.8:
        small = _compress(small, random)
        if random.random() < 0.15:  # a page that was stored twice
            small = _compress(small, random)
    return np.asarray(small)


def _compress(image: Image.Image, random: Random) -> Image.Image:
    buffer = io.BytesIO()
    if random.random() < 0.75:
        image.save(buffer, "JPEG", quality=random.randint(30, 95), subsampling=random.choice([0, 2]))
    else:
        image.save(buffer, "WEBP", quality=random.randint(40, 95), method=0)
    return Image.open(buffer).convert("RGB")
