"""Doubles of the job store and the object store in memory, for unit tests of your own code and ours.

The same tests run over the doubles and over the real ones.
"""

from diffedit.jobs.memory import MemoryJobStore
from diffedit.objects.memory import MemoryObjectStore

__all__ = ["MemoryJobStore", "MemoryObjectStore"]
