"""What can be wrong with a worker, a name for each. `sick_worker.py` is a worker with one of them."""

from enum import StrEnum


class Sickness(StrEnum):
    """What is wrong with a worker."""

    WRONG_KEYS = "wrong S3 keys"
    NO_BUCKET = "no such bucket"
    OTHER_BUCKET = "another bucket"
    """It exists and is empty: nothing that the worker looks for is there, and nobody finds what it stores."""
    CLOCK = "clock one hour off"
    CUDA_ERROR = "CUDA error"
    """Every forward pass fails, for good, as it does in a process whose device has failed once."""
    OUT_OF_MEMORY = "out of memory"
    NAN = "NaN"
    EXCEPTION = "unexpected exception"
    CHECKPOINT = "broken checkpoint"
    """The weights of the UNet cannot be loaded."""


LIFELONG = frozenset({Sickness.OTHER_BUCKET, Sickness.CHECKPOINT})
"""Those that a worker has from the start or not at all."""
OF_THE_STORE = frozenset({Sickness.WRONG_KEYS, Sickness.NO_BUCKET, Sickness.CLOCK})
"""Those with which S3 refuses the worker's requests."""

SICKNESS, WELL_STAGES = "CHAOS_SICKNESS", "CHAOS_WELL_STAGES"
"""The variables that tell a sick worker what is wrong with it, and how many stages it runs well before."""
FALLS_SICK = "this worker falls sick"
"""What it logs then."""
OTHER_BUCKET = "elsewhere"
