"""The import of torch, diffusers, transformers and the stages: four thousand modules."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Collect no garbage while the context lasts, and never look at what exists at its end.

    Modules stay until the process ends. While they are imported, Python's collector goes through all of them again and
    again, which is a quarter of the time of the import. Later, each full collection would take a quarter of a second.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
