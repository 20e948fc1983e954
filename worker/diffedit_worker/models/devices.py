"""Where models run: the device, the number type, the memory layout, and the threads of a CPU."""

import re

import torch

from diffedit.errors import ModelUnavailable
from diffedit_worker.models.profiles import Profile

_DEVICE_ERROR = re.compile(
    r"\b(CUDA|HIP|cuDNN|MIOpen|cuBLAS|cuFFT|cuSOLVER|cuSPARSE|NVRTC|Triton)\b[\w\[\] ]*\berror\b"
    r"|\b(CUDNN|CUBLAS|CUFFT|CUSOLVER|CUSPARSE|HIPBLAS|MIOPEN)_STATUS_|\b(cuda|hip)Error\w*",
    re.IGNORECASE,
)
"""How torch begins or marks the messages of errors that come from a device and its libraries."""

_OUT_OF_MEMORY = re.compile(r"out of memory|ALLOC_FAILED|ErrorMemoryAllocation", re.IGNORECASE)
"""How CUDA and its libraries name a lack of memory, where torch has no class for it."""


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


def limit_cpu_threads(profile: Profile, device: torch.device) -> None:
    """Set torch's thread count for the whole process to the profile's `cpu_threads`, if the models run on a CPU."""
    if device.type == "cpu" and profile.cpu_threads:
        torch.set_num_threads(profile.cpu_threads)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the memory of the device or of the machine was too small. A smaller batch may fit."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def is_device_error(error: BaseException) -> bool:
    """Return whether the error, or one that caused it, is of the device itself: of CUDA, its libraries, or HIP.

    After such an error every later call of the process to the device may fail. To run out of memory is not one.
    """
    if is_out_of_memory(error):
        return False
    # Before torch 2.8 there was no such class.
    if isinstance(error, getattr(torch, "AcceleratorError", ())):
        return True
    if isinstance(error, RuntimeError) and _DEVICE_ERROR.search(str(error)):
        return True
    return error.__cause__ is not None and is_device_error(error.__cause__)
