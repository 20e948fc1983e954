"""A client over the memory doubles, for tests of what it queues and how it waits."""

from io import BytesIO

from PIL import Image

from diffedit import Client, Settings, WorkerInfo
from diffedit.contract.job import Job
from diffedit.contract.stages import queue_names
from diffedit.testing import MemoryObjectStore, memory_backend

TEXTS = {"source_prompt": "a bowl of fruits", "target_prompt": "a bowl of pears"}


class FakeService:
    """A client, the doubles behind it, a worker for the profile "tiny", and the jobs that the client has sent."""

    def __init__(self, **settings) -> None:
        self.backend, self.object_store, self.sent = memory_backend(Settings(**settings)), MemoryObjectStore(), []
        self.job_store, self.worker_registry = self.backend.job_store, self.backend.worker_registry
        self.client = Client(Settings(**settings), backend=self.backend, object_store=self.object_store, send=self.send)
        self.serve("tiny")

    def send(self, job: Job) -> None:
        self.sent.append(job)

    def serve(self, profile: str, **fields) -> None:
        """Announce a live worker for this profile."""
        info = {"id": profile, "name": f"{profile}@here", "profile": profile, "queues": queue_names(profile)}
        self.worker_registry.send_heartbeat(WorkerInfo(**{**info, "device": "cpu", **fields}))


def png(size: tuple[int, int] = (32, 24), colour: str | tuple[int, ...] = "green") -> bytes:
    """Return a PNG file of one colour."""
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()
