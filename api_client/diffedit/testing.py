"""Doubles of the job backend and the object store in memory, for unit tests of your own code and ours.

The same tests run over the doubles and over the real ones.
"""

from diffedit.jobs.backend import JobBackend, memory_backend
from diffedit.objects.memory import MemoryObjectStore

__all__ = ["JobBackend", "MemoryObjectStore", "memory_backend"]
