"""Small pictures of latents, without the VAE's decoder: each cell of the latents becomes one pixel.

The latents of a VAE are, roughly, a linear code of the colours of the picture, scaled down. The linear map is fitted
once for each edit, by least squares between the latents of the original, which are there anyway, and the original
itself. So it suits the model and the picture, whatever they are, and costs no pass of a model.
"""

import io
import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from diffedit_worker.diffusion.letterbox import Letterbox

QUALITY = 80
RIDGE = 1e-3
"""Weight of small coefficients beside the mean square error. A picture of one colour would leave them open."""


class OnPreviewedStep(Protocol):
    """An `on_step` that can have a preview: `preview()` returns the file of a small picture."""

    def __call__(self, done: int, total: int, preview: Callable[[], bytes] | None = None, /) -> None: ...


class Previews:
    """The previews of one edit: `keep` the latents of each step, and `encode` those that somebody wants to see.

    Args:
        original: the picture, of any size.
        z0: its latents (1, 4, h, w).
        letterbox: how the picture lies in them.
    """

    def __init__(self, original: Image.Image, z0: Tensor, letterbox: Letterbox) -> None:
        self._original = original
        self._z0 = self._latents = z0
        self._letterbox = letterbox
        self._map: Tensor | None = None
        self._lock = threading.Lock()

    def keep(self, latents: Tensor) -> None:
        """Keep these latents (1, 4, h, w). Nothing is computed."""
        self._latents = latents

    @torch.no_grad()
    def encode(self) -> bytes:
        """Return the latents that were kept last as a WebP file of at most w x h pixels, without padding."""
        with self._lock:
            if self._map is None:
                self._map = self._fitted()
        height, width = self._latents.shape[-2:]
        colours = (_cells(self._latents) @ self._map).clamp(0, 1) * 255
        pixels = colours.round().to("cpu", torch.uint8).reshape(height, width, 3)
        box = self._letterbox
        right = max(1, round(width * box.scaled[0] / box.padded[0]))
        lower = max(1, round(height * box.scaled[1] / box.padded[1]))
        buffer = io.BytesIO()
        Image.fromarray(pixels.numpy()).crop((0, 0, right, lower)).save(buffer, "WEBP", quality=QUALITY, method=0)
        return buffer.getvalue()

    def _fitted(self) -> Tensor:
        """Return the map (5, 3) from the 4 channels of a cell and a 1 to its colour in [0, 1]."""
        height, width = self._z0.shape[-2:]
        small = self._letterbox.apply(self._original).resize((width, height), Image.Resampling.BOX)
        colours = torch.from_numpy(np.array(small, np.float32).reshape(-1, 3) / 255)
        cells = _cells(self._z0).cpu()
        mean = colours.mean(0)
        ridge = RIDGE * len(cells) * torch.eye(cells.shape[1])
        fitted: Tensor = torch.linalg.solve(cells.T @ cells + ridge, cells.T @ (colours - mean))
        fitted[-1] += mean
        return fitted.to(self._z0.device)


def _cells(latents: Tensor) -> Tensor:
    """Return the cells (h w, 5) of latents (1, 4, h, w), each with a 1."""
    cells: Tensor = pad(latents[0].flatten(1).T.float(), (0, 1), value=1.0)
    return cells
