"""The memory of a device: how large a batch may be, and what to do when memory runs out."""

import gc
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch

from diffedit.errors import OutOfMemory
from diffedit_worker.diffusion.device_errors import is_out_of_memory

log = logging.getLogger(__name__)

T = TypeVar("T")


class DeviceMemory:
    """The memory of the device on which models run. Threads may share it.

    Attributes:
        max_batch: the most samples of one job in one forward pass of the UNet.
    """

    def __init__(self, device: torch.device, max_batch: int = 8) -> None:
        self.max_batch = max_batch
        self._device = device
        self._lock = threading.Lock()

    def make_room(self, tried: int) -> None:
        """Free unused memory, and halve `max_batch` for good. To be called after an out-of-memory error.

        `tried` is what `max_batch` was before the error. If another thread has halved it since, it stays as it is.
        """
        with self._lock:
            self.max_batch = min(self.max_batch, max(2, tried // 2))
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def run_within(self, run: Callable[[], T], again: Callable[[], AbstractContextManager[None]] = nullcontext) -> T:
        """Return what `run` returns. If memory runs out, call it once more in smaller batches, inside of `again()`.

        Raises:
            OutOfMemory: memory ran out again.
        """
        tried = self.max_batch
        try:
            return run()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("out of memory; trying smaller batches")
        # Outside of the handler: its exception keeps the frames of the failed call alive, and so their tensors.
        with again():
            self.make_room(tried)
            try:
                return run()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                raise OutOfMemory from error
