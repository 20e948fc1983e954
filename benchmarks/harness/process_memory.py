"""How much memory this process takes at most while it runs something. Linux only, see proc(5)."""

import ctypes
from pathlib import Path


class PeakMemory:
    """Measures from its creation."""

    def __init__(self) -> None:
        _return_free_memory()
        # The peak of a process never falls, until it is reset.
        Path("/proc/self/clear_refs").write_text("5")
        self._before = memory("VmRSS")

    def growth(self) -> float:
        """Return by how many MiB the peak lies over what the process took at the creation."""
        return memory("VmHWM") - self._before


def memory(field: str) -> float:
    """Return a field of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _return_free_memory() -> None:
    """Give the system back what the process has freed. What is taken out of that would not be seen."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim:
        trim(0)
