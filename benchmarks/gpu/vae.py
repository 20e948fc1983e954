"""The time of the VAE by its number type."""

from functools import partial
from typing import Any

import torch

from benchmarks.gpu.shapes import ShapedModel
from benchmarks.gpu.table import NO_MEMORY, Row, Rows
from benchmarks.gpu.timing import PeakMemory, seconds_per_call, unless_out_of_memory
from diffedit_worker.diffusion import diffedit


def vae_rows(model: ShapedModel) -> Rows:
    """Measure one encoding and one decoding of a picture in each number type, against float32."""
    reference: float | None = None
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        vae = model.with_dtypes(model.dtype, dtype).vae
        picture = (2 * model.picture() - 1).to(dtype)
        peak = PeakMemory(model.device)

        there_and_back = partial(_there_and_back, vae, picture)
        seconds = unless_out_of_memory(partial(seconds_per_call, there_and_back, model.device))
        reference = reference or seconds
        name = str(dtype).removeprefix("torch.")
        if seconds is None or reference is None:
            yield Row(model.shape.name, "VAE, encode and decode", name, NO_MEMORY)
            continue
        memory = f", peak memory {peak.gigabytes:.2f} GB" if peak.gigabytes else ""
        ratio = f"{seconds / reference:.2f} of float32"
        yield Row(model.shape.name, "VAE, encode and decode", name, f"{1000 * seconds:.1f} ms{memory}", ratio)


def _there_and_back(vae: Any, picture: torch.Tensor) -> torch.Tensor:
    return diffedit.decode(vae, diffedit.encode(vae, picture))
