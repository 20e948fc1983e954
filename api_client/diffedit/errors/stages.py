"""Errors with which a stage ends. Their codes reach the user as `JobFailed.error_code`."""

from diffedit.errors.base import DiffEditError


class StageError(DiffEditError):
    """Raised by a stage that cannot be completed.

    If it may be the worker's fault, another worker tries. Otherwise the job fails with the code of this error.
    """

    code = "stage_failed"


class EmptyMask(StageError):
    """Raised when the mask selects nothing.

    Ask for a larger change, lower `mask_thresholding_ratio`, or give a mask.
    """

    code = "empty_mask"


class TextTooLong(StageError):
    """Raised when a text has more tokens than the model of its stage takes. The message has both numbers.

    Shorten the text.
    """

    code = "text_too_long"

    def __init__(self, name: str, tokens: int, max_tokens: int) -> None:
        super().__init__(f"the {name} has {tokens} tokens, and the model takes {max_tokens} at most; shorten it")


class NotFinite(StageError):
    """Raised when a model returns infinite values or NaN. Nothing of it is stored.

    Run the worker with DIFFEDIT_DTYPE=float32 (for the VAE: DIFFEDIT_VAE_DTYPE=float32), or use another device.

    Attributes:
        model: which model it was, such as "UNet".
        device: the device on which it ran, such as "cuda:0".
        dtype: its number type, such as "float16".
    """

    code = "not_finite"

    def __init__(self, model: str, device: str, dtype: str) -> None:
        super().__init__(
            f"the {model} returned values that are not finite, on {device} in {dtype}; run the worker with "
            "DIFFEDIT_DTYPE=float32 (for the VAE: DIFFEDIT_VAE_DTYPE=float32), or use another device; if it happens to "
            "one job only, ask for less guidance"
        )
        self.model = model
        self.device = device
        self.dtype = dtype


class UnreadableArtifact(StageError):
    """Raised when what a stage has made cannot be read again after it was written. Nothing of it is stored.

    The message says what could not be written. Report it, with the picture and the parameters.
    """

    code = "unreadable_artifact"


class OutOfMemory(StageError):
    """Raised when the memory of the device is too small for this job, in small batches as well.

    Use a larger device or a smaller profile.
    """

    code = "out_of_memory"

    def __init__(self) -> None:
        super().__init__(
            "the device ran out of memory, with a smaller batch as well; use a larger device or a smaller profile"
        )


class ModelUnavailable(StageError):
    """Raised when a worker cannot load a model of its profile. Read the worker's log."""

    code = "model_unavailable"


class DeviceFailed(StageError):
    """Raised when the device of a worker fails, such as with a CUDA error. The worker's process ends.

    Its jobs go to other workers. Read its log; if it happens again, check the driver and the device.
    """

    code = "device_failed"


class WorkerUnfit(StageError):
    """Raised by a worker that finds that it cannot run stages: its clock is wrong, or a library is missing.

    The worker ends, and its jobs go to other workers. The message says what to repair on its machine.
    """

    code = "worker_unfit"
