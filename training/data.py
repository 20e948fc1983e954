"""The training pictures. They are drawn once and saved on disk."""

import logging
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.random import default_rng
from torch import Tensor

from training.scenes import SIZE, Scene, compose, draw, scenes

log = logging.getLogger("training")


class Pictures:
    """The first `count` scenes of a seed, with their pictures."""

    def __init__(self, directory: Path, seed: int, count: int) -> None:
        self.scenes: list[Scene] = list(scenes(seed, count))
        path = directory / f"pictures-{seed}-{count}.npy"
        if not path.exists():
            log.info("drawing %d pictures", count)
            with ProcessPoolExecutor() as pool:
                pixels = np.stack(list(pool.map(partial(_pixels, seed), range(count), chunksize=256)))
            np.save(path.with_suffix(".part.npy"), pixels)
            path.with_suffix(".part.npy").replace(path)
        self.pixels: np.ndarray = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.scenes)

    def choose(self, size: int, generator: torch.Generator) -> list[int]:
        """Return the numbers of `size` random pictures."""
        chosen: list[int] = torch.randint(len(self), (size,), generator=generator).tolist()
        return chosen

    def images(self, numbers: list[int] | slice) -> Tensor:
        """Return these pictures as a model takes them: (B, 3, SIZE, SIZE) in [-1, 1]."""
        pixels = torch.tensor(self.pixels[numbers])
        return (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def _pixels(seed: int, number: int) -> np.ndarray:
    pixels = np.asarray(draw(compose(default_rng((seed, number)))))
    assert pixels.shape == (SIZE, SIZE, 3)
    return pixels
