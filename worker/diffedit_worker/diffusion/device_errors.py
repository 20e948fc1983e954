"""Errors that come from the device: it has too little memory, or it has failed."""

import re

import torch

_DEVICE_ERROR = re.compile(
    r"\b(CUDA|HIP|cuDNN|MIOpen|cuBLAS|cuFFT|cuSOLVER|cuSPARSE|NVRTC|Triton)\b[\w\[\] ]*\berror\b"
    r"|\b(CUDNN|CUBLAS|CUFFT|CUSOLVER|CUSPARSE|HIPBLAS|MIOPEN)_STATUS_|\b(cuda|hip)Error\w*",
    re.IGNORECASE,
)
"""How torch begins or marks the messages of errors that come from a device and its libraries."""

_OUT_OF_MEMORY = re.compile(r"out of memory|ALLOC_FAILED|ErrorMemoryAllocation", re.IGNORECASE)
"""How CUDA and its libraries name a lack of memory, where torch has no class for it."""


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
