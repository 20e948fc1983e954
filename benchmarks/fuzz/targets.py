"""What is fuzzed. To add a target, add a row to `TARGETS`."""

import functools
import json
from base64 import b64encode
from contextlib import suppress
from io import BytesIO
from typing import Any, cast

import torch
from celery.exceptions import Ignore
from celery.worker.request import Request
from kombu.utils.json import loads
from PIL import Image, ImageCms

from benchmarks.fuzz import mutations
from benchmarks.fuzz.cases import MIB, Cost, Target
from benchmarks.fuzz.hostile import cmyk_profile
from diffedit import testing
from diffedit.contract.job import JobStatus
from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact, Stage
from diffedit.errors import BadPicture
from diffedit.jobs.dispatch import celery_app
from diffedit.jobs.messages import task_name
from diffedit.jobs.record_objects import object_keys_in
from diffedit.jobs.records import is_newer, readable, status_of
from diffedit.masks import read_mask
from diffedit.options import EditOptions
from diffedit.picture_files import lean_file
from diffedit.pictures import Picture, encode_png, read_picture, read_result
from diffedit.uploads import image_upload
from diffedit_worker.celery_ext.transport import Transport
from diffedit_worker.pipeline import CODECS
from diffedit_worker.settings import WorkerSettings
from diffedit_worker.tasks import add_tasks

JOB_ID = "ab" * 16


def _pictures() -> list[bytes]:
    ramp = Image.radial_gradient("L").resize((64, 48))
    rgb = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_180), ramp))
    exif, profile = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[0x112] = 6
    rgba = Image.merge("RGBA", (*rgb.split(), ramp))
    files: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "PNG", {"exif": exif, "icc_profile": profile}),
        (rgba, "PNG", {}),
        (ramp.convert("LA"), "PNG", {}),
        (rgb.quantize(16), "PNG", {"transparency": 3}),
        (ramp.convert("1"), "PNG", {}),
        (ramp.convert("I;16"), "PNG", {"transparency": 3}),
        (rgb, "JPEG", {"exif": exif, "icc_profile": profile, "comment": b"text"}),
        (rgb, "JPEG", {"progressive": True, "subsampling": 0}),
        (rgb, "JPEG", {"restart_marker_rows": 1}),
        (ramp, "JPEG", {"progressive": True}),
        (rgb.convert("CMYK"), "JPEG", {"icc_profile": cmyk_profile()}),
        (rgb, "WEBP", {"exif": exif, "icc_profile": profile}),
        (rgba, "WEBP", {"quality": 70}),
        (rgba, "WEBP", {"lossless": True, "exact": True}),
    ]
    return [_saved(image, kind, **options) for image, kind, options in files]


def _masks() -> list[bytes]:
    masks = []
    for data in _pictures():
        with suppress(BadPicture):
            read_mask(data)
            masks.append(data)
    return masks


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _picture_limit(data: bytes) -> Cost:
    """An honest picture takes 0.01 to 0.03 s and 8 to 20 MiB for each million of pixels, to read and to write again."""
    try:
        width, height = lean_file(data, "picture").size
    except BadPicture:
        width = height = 0
    megapixels = min(width * height / 1e6, 40)
    return Cost(0.5 + 0.25 * megapixels + 1e-7 * len(data), 64 + 30 * megapixels + 8 * len(data) / MIB)


def _json_limit(data: bytes) -> Cost:
    """Python needs some 60 bytes for an empty list, which is 3 bytes of JSON, and what is read is copied."""
    return Cost(0.5 + 5e-7 * len(data), 64 + 128 * len(data) / MIB)


def _upload(data: bytes) -> None:
    """Upload a picture as a client does. Whatever is accepted must be readable when it was written as a result."""
    assert image_upload(data).data == data
    picture = read_picture(data)
    again = read_result(encode_png(picture.image, icc_profile=picture.icc_profile, text={"diffedit": "{}"}))
    if (again.image.tobytes(), again.icc_profile) != (picture.image.tobytes(), picture.icc_profile):
        raise AssertionError("the result differs from the picture")


def _artifacts() -> list[bytes]:
    image = Image.radial_gradient("L").resize((64, 48)).convert("RGB")
    values: dict[Artifact, Any] = {
        Artifact.CAPTION: "a bowl of fruits",
        Artifact.PROMPTS: Prompts(source=("a bowl of fruits",), target=("a bowl of pears",)),
        Artifact.EMBEDDINGS: {name: torch.zeros(1, 77, 8) for name in ("source", "target", "negative")},
        Artifact.CAPTION_EMBEDDING: {name: torch.zeros(1, 77, 8) for name in ("caption", "unconditional")},
        Artifact.MASK: image.convert("L").point([0] * 128 + [255] * 128),
        Artifact.TRAJECTORY: {"latents": torch.zeros(3, 1, 4, 8, 8)},
        Artifact.RESULT: Picture(image, None, "png", text={"diffedit": "{}"}),
    }
    return [artifact.value.encode() + b"\n" + CODECS[artifact].encode(value) for artifact, value in values.items()]


def _artifact(draw: Any, data: bytes) -> bytes:
    name, _, body = data.partition(b"\n")
    codec = CODECS[Artifact(name.decode())]
    change = {"json": mutations.json_text, "safetensors": mutations.safetensors}.get(codec.extension, mutations.picture)
    try:
        return name + b"\n" + change(draw, body)
    except Exception:  # an earlier change has destroyed the structure
        return name + b"\n" + mutations.any_bytes(draw, body)


def _artifact_limit(data: bytes) -> Cost:
    _, _, body = data.partition(b"\n")
    return _json_limit(body) if body[:1] in b'{["' else _picture_limit(body)


def _decode_artifact(data: bytes) -> None:
    name, _, body = data.partition(b"\n")
    CODECS[Artifact(name.decode())].decode(body)


def _records() -> list[bytes]:
    client, image = testing.memory_client(), Image.new("RGB", (64, 64))
    texts = EditOptions(source_prompt="a bowl of fruits", target_prompt="a bowl of pears", deadline=60)
    jobs = [client.edit(image, **texts) for _ in range(5)]
    testing.succeed(jobs[0])
    testing.fail(jobs[1], "empty_mask", "nothing found", stage=Stage.MASK)
    jobs[2].cancel()
    store: Any = client._backend.job_store
    store.start_stage(jobs[3].id, Stage.EMBED, "testing")
    store.report_step(jobs[3].id, 1, 2, "testing")
    return [json.dumps(store._state.records[job.id]).encode() for job in jobs]


def _record(draw: Any, data: bytes) -> bytes:
    """Change a record. Its fields are texts, as Redis returns them."""
    fields = mutations.json_value(draw, json.loads(data))
    if not isinstance(fields, dict):
        return data
    # Redis returns no halves of surrogate pairs.
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return json.dumps({name: text.encode(errors="replace").decode() for name, text in texts.items()}).encode()


def _read_record(data: bytes) -> None:
    fields = json.loads(data)
    is_newer(fields)
    object_keys_in(fields)
    readable({JOB_ID: fields})
    status = status_of(JOB_ID, fields)
    for name in [name for name, member in vars(JobStatus).items() if isinstance(member, property)]:
        getattr(status, name)
    status.model_dump_json()


def _messages() -> list[bytes]:
    headers: dict[str, Any] = {
        "lang": "py",
        "id": JOB_ID,
        "root_id": JOB_ID,
        "retries": 0,
        "timelimit": [None, None],
        "eta": None,
    }
    headers |= {"argsrepr": "()", "kwargsrepr": "{}", "origin": "x@y", "expires": None, "group": None}
    properties: dict[str, Any] = {
        "delivery_tag": JOB_ID,
        "body_encoding": "base64",
        "correlation_id": JOB_ID,
        "reply_to": JOB_ID,
    }
    properties |= {"delivery_mode": 2, "priority": 0, "delivery_info": {"exchange": "", "routing_key": "q"}}
    return [
        json.dumps(
            {
                "body": _body(json.dumps([[argument], {}, {}]).encode()),
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": {**headers, "task": task_name(stage)},
                "properties": properties,
            }
        ).encode()
        for stage, argument in ((Stage.EMBED, {"id": JOB_ID, "contract": 2}), (Stage.EDIT, 7))
    ]


def _body(data: bytes) -> str:
    return b64encode(data).decode()


class _NoRunner:
    def run(self, stage: Stage, job_id: str, ending: object) -> None:
        """Run no stage."""

    def hand_back(self, job_id: str) -> None:
        """Hand nothing back."""


@functools.cache
def _app() -> Any:
    app = celery_app(WorkerSettings())
    add_tasks(app, cast(Any, _NoRunner))
    return app


def _receive(data: bytes) -> None:
    """Read a message as a worker does: kombu's envelope, Celery's request, the argument of our task.

    The transport drops a message for whatever Exception this raises, so only the rest counts as a failure.
    """
    app = _app()
    channel = Transport.Channel.__new__(Transport.Channel)
    try:
        message = Transport.Channel.Message(loads(data.decode(errors="replace")), channel=channel)
        task = app.tasks[message.headers["task"]]
        request = Request(message, app=app, task=task, hostname="here", connection_errors=())
        arguments, options, _ = request._payload
        if task.name.startswith("diffedit."):
            task(*arguments, **options)
    except Ignore:
        pass


def _message(draw: Any, data: bytes) -> bytes:
    """Change the envelope of a message or, within it, the body."""
    envelope = json.loads(data) if draw.random() < 0.4 and data.startswith(b"{") else None
    if not isinstance(envelope, dict) or not isinstance(envelope.get("body"), str):
        return mutations.json_text(draw, data)
    content = [[{"id": JOB_ID, "contract": 2}], {}, {}]
    envelope["body"] = _body(mutations.json_text(draw, json.dumps(content).encode()))
    return json.dumps(envelope).encode()


TARGETS = (
    Target("pictures", _pictures, mutations.picture, _upload, _picture_limit),
    Target("masks", _masks, mutations.picture, read_mask, _picture_limit),
    Target("artifacts", _artifacts, _artifact, _decode_artifact, _artifact_limit),
    Target("records", _records, _record, _read_record, _json_limit),
    Target("messages", _messages, _message, _receive, _json_limit, expected=(Exception,)),
)
