"""Devices, number types, memory layouts and threads."""

import pytest
import torch

from diffedit.errors import ModelUnavailable
from diffedit_worker.diffusion.device_errors import is_device_error, is_out_of_memory
from diffedit_worker.models.devices import (
    default_batch_jobs,
    limit_cpu_threads,
    resolve_device,
    resolve_dtype,
    resolve_memory_format,
)
from diffedit_worker.models.profiles import load_profiles


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("wanted", "device"),
    [(None, "cuda:0"), ("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")],
)
def test_the_device_with_two_gpus(two_gpus, wanted, device):
    assert resolve_device(wanted) == torch.device(device)


def test_the_device_on_a_mac(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    assert resolve_device().type == resolve_device("mps").type == "mps"


def test_the_device_on_a_plain_machine(no_gpu):
    assert resolve_device() == torch.device("cpu")


@pytest.mark.parametrize("wanted", ["cuda:2", "mps", "tpu", "cuda:x"])
def test_a_device_that_is_not_there(two_gpus, wanted):
    with pytest.raises(ModelUnavailable, match=f"no device '{wanted}' here; .* cuda:0, cuda:1, cpu"):
        resolve_device(wanted)


@pytest.mark.parametrize(
    ("device", "dtype"), [("cuda:1", torch.float16), ("mps", torch.float32), ("cpu", torch.float32)]
)
def test_the_dtype(device, dtype):
    assert resolve_dtype(torch.device(device)) is dtype


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_a_wanted_dtype_wins_on_every_device(device, name):
    assert resolve_dtype(torch.device(device), name) is getattr(torch, name)


@pytest.mark.parametrize(
    ("device", "memory_format"),
    [("cuda:1", torch.channels_last), ("mps", torch.preserve_format), ("cpu", torch.preserve_format)],
)
def test_the_memory_format(device, memory_format):
    assert resolve_memory_format(torch.device(device)) is memory_format


@pytest.mark.parametrize(("device", "threads"), [("cpu", 1), ("cuda:0", 2)])
def test_the_profile_limits_the_threads_of_a_cpu(device, threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        limit_cpu_threads(load_profiles()["sd15"], torch.device(device))
        assert torch.get_num_threads() == 2, "sd15 has no limit"
        limit_cpu_threads(load_profiles()["tiny"], torch.device(device))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def caused_by(error: BaseException) -> Exception:
    """Return the error of a model that does not work, as `models.proof` raises it."""
    try:
        raise ModelUnavailable("the unet was loaded and does not work") from error
    except ModelUnavailable as raised:
        return raised


DEVICE_ERRORS = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA driver error: unspecified launch failure"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_MAPPING_ERROR"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnCreate(handle)`"),
    RuntimeError("HIP error: the operation cannot be performed in the present state"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    RuntimeError("cudaErrorECCUncorrectable: uncorrectable ECC error encountered"),
]
OTHER_ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"),
    RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (77x768 and 1024x320)"),
    RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'"),
    ValueError("CUDA error: said by somebody else"),
    MemoryError(),
]


@pytest.mark.parametrize("error", DEVICE_ERRORS, ids=str)
def test_an_error_of_the_device_is_recognized_also_as_a_cause(error):
    assert is_device_error(error)
    assert is_device_error(caused_by(error))


@pytest.mark.parametrize("error", OTHER_ERRORS, ids=str)
def test_other_errors_are_not_of_the_device(error):
    assert not is_device_error(error)
    assert not is_device_error(caused_by(error))


@pytest.mark.parametrize(
    "message",
    ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"],
)
def test_a_lack_of_memory_that_torch_has_no_class_for_is_one(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    assert not is_device_error(RuntimeError(message))


@pytest.mark.parametrize(
    ("profile", "device", "jobs"),
    [("tiny", "cpu", 4), ("sd21", "cpu", 1), ("sd21", "cuda:1", 4), ("tiny", "cuda", 4), ("sd21", "mps", 1)],
)
def test_by_default_a_worker_runs_several_stages_at_once_where_it_pays(profile: str, device: str, jobs: int) -> None:
    assert default_batch_jobs(load_profiles()[profile], torch.device(device)) == jobs
