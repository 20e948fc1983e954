"""The time of a forward pass: by its samples, shallow, as a graph, compiled, and by the attention's kernel."""

import logging
import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.graphs import BucketedUNet, GraphedUNet, UNet
from benchmarks.gpu.shapes import ShapedModel
from benchmarks.gpu.table import NO_MEMORY, Row, Rows
from benchmarks.gpu.timing import Deadline, PeakMemory, seconds_per_call, unless_out_of_memory
from benchmarks.harness.pass_times import GUIDE, PassTimes, allowed_rate

log = logging.getLogger(__name__)

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
"""The kernels of `scaled_dot_product_attention`."""
COMPILE_SECONDS = 150.0
"""Time that the compilation of one size may take."""
_NO_KERNEL = re.compile("No (available kernel|viable backend)")
"""torch's messages for a kernel that does not know the device, the number type or the width of a head."""


def pass_rows(
    model: ShapedModel, samples: Sequence[int], deadline: Deadline, fitted: dict[str, PassTimes] | None = None
) -> Rows:
    """Measure a pass of each number of samples, and what these times allow 8 jobs that share passes.

    The times of the fitted line are put into `fitted`, by the shape's name.
    """
    peak, seconds = PeakMemory(model.device), dict[int, float]()
    for n in samples:
        # A pass of twice as many samples takes at most twice as long.
        if seconds and 2 * 12 * max(seconds.values()) > deadline.left:
            break
        peak.reset()
        taken = unless_out_of_memory(partial(_pass_seconds, model, model.unet, n))
        if taken is None:
            yield Row(model.label, "a pass", _samples(n), NO_MEMORY)
            break
        seconds[n] = taken
        memory = f", peak memory {peak.gigabytes:.2f} GB" if peak.gigabytes else ""
        ratio = f"{taken / seconds[samples[0]]:.2f} of a pass of {samples[0]}"
        yield Row(model.label, "a pass", _samples(n), f"{1000 * taken:.2f} ms{memory}", ratio)
    if len(seconds) > 1:
        times = PassTimes.fit(seconds)
        (fitted if fitted is not None else {})[model.shape.name] = times
        lone, shared = (allowed_rate(times, GUIDE, jobs, max_samples=max(samples)) for jobs in (1, 8))
        fit = f"{1000 * times.fixed:.2f} ms + {1000 * times.per_sample:.2f} ms a sample"
        yield Row(model.label, "a pass", "fitted line", fit, f"allows 8 jobs {shared / lone:.2f} of the edits of one")


def shallow_rows(model: ShapedModel, samples: Iterable[int]) -> Rows:
    """Measure a shallow pass, which is given the features of the lower resolutions, against a full one."""
    denoiser = model.denoiser
    for n in samples:
        x, t, cond = model.inputs(n)
        _, features = denoiser(x, t, cond)
        full = seconds_per_call(partial(denoiser, x, t, cond), model.device)
        shallow = seconds_per_call(partial(denoiser, x, t, cond, features), model.device)
        ratio = f"{shallow / full:.2f} of a full pass"
        yield Row(model.label, "a shallow pass", _samples(n), f"{1000 * shallow:.2f} ms", ratio)


def graph_rows(model: ShapedModel, samples: Sequence[int], deadline: Deadline) -> Rows:
    """Measure passes replayed as CUDA graphs against plain passes.

    A graph has fixed shapes, so the samples of a pass are padded to the next of a few sizes. Without CUDA there are no
    graphs, and only the padding is measured.
    """
    unet, cuda = _new_unet(model), model.device.type == "cuda"
    padded = BucketedUNet(GraphedUNet(unet) if cuda else unet, samples)
    name = "a pass as a CUDA graph" if cuda else "a pass, padded, without a graph"
    yield from _against_plain(model, name, unet, padded, samples, deadline)


def compile_rows(model: ShapedModel, samples: Sequence[int], deadline: Deadline) -> Rows:
    """Measure passes of the compiled UNet, also with CUDA graphs, against plain passes.

    Each size is compiled for itself, which takes a minute or more. Without CUDA, torch's "eager" stands for the
    compiler and shows only that the code runs.
    """
    unet, cuda = _new_unet(model), model.device.type == "cuda"
    options: dict[str, Any] = {"mode": "reduce-overhead"} if cuda else {"backend": "eager"}
    compiled = BucketedUNet(torch.compile(unet, dynamic=False, **options), samples)
    name = f"a pass, compiled ({', '.join(options.values())})"
    reserve = COMPILE_SECONDS if cuda else 0
    yield from _against_plain(model, name, unet, compiled, samples, deadline, reserve)


def _new_unet(model: ShapedModel) -> Any:
    # Another one than `model.unet`, because `model.denoiser` hooks into that, and compiled code would break there.
    return model.shape.build_unet(model.device, model.dtype)


def _against_plain(
    model: ShapedModel,
    name: str,
    plain: UNet,
    other: UNet,
    samples: Iterable[int],
    deadline: Deadline,
    reserve: float = 0.0,
) -> Rows:
    """Measure two UNets that take turns. Stops when less than `reserve` seconds are left."""
    for n in samples:
        if deadline.left < reserve:
            return
        reference = unless_out_of_memory(partial(_pass_seconds, model, plain, n))
        taken = unless_out_of_memory(partial(_pass_seconds, model, other, n))
        if taken is None or reference is None:
            yield Row(model.label, name, _samples(n), NO_MEMORY)
            return
        yield Row(model.label, name, _samples(n), f"{1000 * taken:.2f} ms", f"{taken / reference:.2f} of a plain pass")


def attention_rows(model: ShapedModel, samples: Iterable[int], deadline: Deadline) -> Rows:
    """Measure a pass with each kernel of the attention, against torch's own choice."""
    for n in samples:
        default = _pass_seconds(model, model.unet, n)
        for name, backend in BACKENDS.items():
            if deadline.left < 0:
                return
            setting = f"{name}, {_samples(n)}"
            try:
                with sdpa_kernel(backend):
                    taken = unless_out_of_memory(partial(_pass_seconds, model, model.unet, n))
            except RuntimeError as error:
                # A library may have another message, and the other kernels are still worth measuring.
                log.warning("%s: %s", setting, error)
                known = _NO_KERNEL.search(str(error))
                yield Row(model.label, "attention", setting, "no kernel for this model" if known else "failed")
                continue
            result = NO_MEMORY if taken is None else f"{1000 * taken:.2f} ms"
            yield Row(
                model.label, "attention", setting, result, f"{taken / default:.2f} of the default" if taken else ""
            )


def _pass_seconds(model: ShapedModel, unet: UNet, samples: int) -> float:
    x, t, cond = model.inputs(samples)

    @torch.no_grad()
    def run() -> object:
        return unet(x, t, encoder_hidden_states=cond, return_dict=False)

    return seconds_per_call(run, model.device)


def _samples(n: int) -> str:
    return f"{n} sample{'s' if n > 1 else ''}"
