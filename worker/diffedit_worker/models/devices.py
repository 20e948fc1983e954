"""Where models run: the device, the number type, the memory layout, and the threads of a CPU."""

import torch

from diffedit.errors import ModelUnavailable
from diffedit_worker.models.profiles import Profile


def resolve_device(wanted: str | None = None) -> torch.device:
    """Return the device `wanted` ("cuda", "cuda:1", "mps", "cpu"), or the best one for None and "auto".

    Raises:
        ModelUnavailable: this machine has no such device; the message names those that it has.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    available = [torch.device("cuda", index) for index in range(gpus)]
    available += [torch.device("mps")] if torch.backends.mps.is_available() else []
    available += [torch.device("cpu")]
    if wanted in (None, "auto"):
        return available[0]
    kind, _, index = wanted.partition(":")
    for device in available:
        if device.type == kind and (index or "0") == str(device.index or 0):
            return device
    raise ModelUnavailable(
        f"no device {wanted!r} here; set DIFFEDIT_DEVICE to one of {', '.join(map(str, available))}, or to auto"
    )


def resolve_dtype(device: torch.device, wanted: str | None = None) -> torch.dtype:
    """Return the number type `wanted` ("float32", "float16", "bfloat16"). The default is float16 on CUDA, else float32.

    A CPU without half-precision units is slower in float16 by orders of magnitude. MPS supports float16, but rounding
    errors add up over the steps of an inversion, and the effect has not been measured on MPS.
    """
    if wanted:
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    return torch.float16 if device.type == "cuda" else torch.float32


def resolve_memory_format(device: torch.device) -> torch.memory_format:
    """Return the layout of the convolution weights of UNet and VAE: channels last on CUDA, unchanged elsewhere.

    cuDNN's half-precision kernels prefer channels last. The gain has not been measured. On a CPU it was measured: the
    UNet is up to 9 % slower for the two samples of a guided step, and the gain of the VAE is 0.1 % of an edit.
    """
    return torch.channels_last if device.type == "cuda" else torch.preserve_format


CUDA_JOBS = 4
"""How many stages a worker runs at once on CUDA, unless it is told. It has not been measured on a GPU."""


def default_batch_jobs(profile: Profile, device: torch.device) -> int:
    """Return how many stages a worker runs at once: what the profile says for a CPU, several on CUDA, else one."""
    return {"cpu": profile.cpu_jobs, "cuda": CUDA_JOBS}.get(device.type, 1)


def limit_cpu_threads(profile: Profile, device: torch.device) -> None:
    """Set torch's thread count for the whole process to the profile's `cpu_threads`, if the models run on a CPU."""
    if device.type == "cpu" and profile.cpu_threads:
        torch.set_num_threads(profile.cpu_threads)
