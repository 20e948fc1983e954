"""The `diffedit` command in this process, over the memory doubles."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner, Result

from diffedit import Client, JobHandle, Settings
from diffedit.cli import app, main
from diffedit.contract.job import Job
from diffedit.contract.object_keys import artifact_key
from diffedit.contract.stages import Artifact
from diffedit.pictures import PROVENANCE, encode_png
from diffedit.testing import MemoryObjectStore, memory_backend
from tests.support.factories import TEXTS, a_worker

SIZE = (32, 24)
MANIFEST = {"format": 1}
RESULT = encode_png(Image.new("RGB", SIZE, "red"), text={PROVENANCE: json.dumps(MANIFEST)})
WORKER = "worker-id"


class Cli:
    """Runs the command. `client` is its client, `sent` holds the jobs that it queued.

    `on_send` is called with each queued job; `cli.on_send = cli.succeed` stands in for a worker.
    """

    def __init__(self, **settings: object) -> None:
        backend = memory_backend(Settings(**settings))
        self.job_store, self.worker_registry = backend.job_store, backend.worker_registry
        self.object_store = MemoryObjectStore()
        self.sent: list[Job] = []
        self.on_send: Callable[[Job], object] = lambda job: None
        self.client = Client(Settings(**settings), backend=backend, object_store=self.object_store, send=self._send)
        self.worker_registry.send_heartbeat(a_worker(id=WORKER, name="rig@here"))

    def __call__(self, *words: str | Path, code: int = 0, width: int = 200) -> Result:
        # They read COLUMNS when they are imported, and pytest-xdist sets it before.
        main.out.width = main.err.width = width
        result = CliRunner(env={"COLUMNS": str(width)}).invoke(app, [str(word) for word in words], prog_name="diffedit")
        assert isinstance(result.exception, SystemExit | None), result.output
        assert result.exit_code == code, result.output
        return result

    def json(self, *words: str | Path) -> object:
        return json.loads(self(*words, "--json").stdout)

    def error(self, *words: str | Path, code: int) -> dict[str, object]:
        """Return the JSON form of the error with which the command ends."""
        return json.loads(self(*words, "--json", code=code).stderr)

    def submit(self, **options: object) -> JobHandle:
        return self.client.edit(png(), **TEXTS, **options)

    def succeed(self, job: Job | JobHandle) -> None:
        """Run the stages of a job as a worker does, each in half a second."""
        job = self.job_store.status(job.id).job
        contents = {
            Artifact.MASK: png("L", 255),
            Artifact.RESULT: RESULT,
        }
        while job.stages_left:
            stage = job.stages_left[0]
            keys = {each: artifact_key(each.value, "ab" * 32, _extension(each)) for each in stage.gives}
            for artifact in contents.keys() & keys.keys():
                self.object_store.put(keys[artifact], contents[artifact])
            if Artifact.RESULT in keys:
                self.object_store.put(keys[Artifact.RESULT].replace(".png", ".json"), json.dumps(MANIFEST).encode())
            self.job_store.start_stage(job.id, stage, WORKER)
            job = job.with_artifacts(keys)
            self.job_store.complete_stage(job, stage, 0.5, list(stage.gives), WORKER)

    def _send(self, job: Job) -> None:
        self.sent.append(job)
        self.on_send(job)


def _extension(artifact: Artifact) -> str:
    if artifact in (Artifact.MASK, Artifact.RESULT):
        return "png"
    return "json" if artifact in (Artifact.CAPTION, Artifact.PROMPTS) else "safetensors"


def png(mode: str = "RGB", colour: int | str = "green", size: tuple[int, int] = SIZE) -> bytes:
    buffer = BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()
