"""Where objects are stored in the bucket: their keys, and the patterns that valid keys match.

Every key ends with hex digits and an extension. Pictures are named by the SHA-256 of their content, derived artifacts
by the hash of everything that they are made from; two of the 64 digits are repeated as a folder. What a browser sends
straight to the bucket lies under `uploads/` until `Client.edit` takes it: its name is random, because its content is
not known before. What a client asked for lies under `submissions/` until the job has ended, named by the job's id, so
that the job can be restored when Redis has lost its data.
"""

import hashlib
import re
import secrets

INPUTS, ARTIFACTS, UPLOADS, SUBMISSIONS = "inputs/", "artifacts/", "uploads/", "submissions/"
FOLDERS = (INPUTS, ARTIFACTS, UPLOADS, SUBMISSIONS)
"""Everything that this project stores. Other objects in the bucket are left alone."""

CONTENT_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "json": "application/json",
    "safetensors": "application/octet-stream",
}
"""The content types of what is stored, by the extension of its key."""

OBJECT_KEY = rf"(?:{INPUTS}|{ARTIFACTS}[a-z_]+/)[0-9a-f]{{2}}/[0-9a-f]{{64}}\.[a-z]+"
"""The form of every key, also of artifacts that this version does not know."""
INPUT_KEY = rf"^{INPUTS}[0-9a-f]{{2}}/[0-9a-f]{{64}}\.(png|jpg|webp)$"

_NOBODY = "common"
"""The folder of uploads that have no owner. No hash can have this name."""


def input_key(data: bytes, extension: str) -> str:
    """Return the key of an uploaded picture. It depends on the content, so that each picture is stored once."""
    return _key(INPUTS, hashlib.sha256(data).hexdigest(), extension)


def artifact_key(artifact: str, inputs_hash: str, extension: str) -> str:
    """Return the key of a derived artifact. `inputs_hash` (64 hex digits) is the hash of what it is made from."""
    return _key(f"{ARTIFACTS}{artifact}/", inputs_hash, extension)


def manifest_key(result_key: str) -> str:
    """Return the key of the manifest that is stored beside a result."""
    return result_key.rpartition(".")[0] + ".json"


def thumbnail_key(result_key: str) -> str:
    """Return the key of the thumbnail that is stored beside a result."""
    return result_key.rpartition(".")[0] + ".webp"


def companion_keys(key: str) -> tuple[str, ...]:
    """Return the keys of what is stored beside an artifact and lives as long: a result has a manifest and a thumbnail.

    Records do not name them.
    """
    return (manifest_key(key), thumbnail_key(key)) if is_artifact_key("result", key) else ()


def upload_key(owner: str | None, extension: str) -> str:
    """Return a new key for a picture that a browser sends straight to the bucket. It has 128 random bits.

    Only its owner can have it edited; None is the owner of all uploads that were asked for without one.
    """
    return f"{upload_folder(owner)}{secrets.token_hex(16)}.{extension}"


def is_upload_key(owner: str | None, key: object) -> bool:
    """Return whether `key` is a possible key of an upload of this owner."""
    form = rf"{upload_folder(owner)}[0-9a-f]{{32}}\.(png|jpg|webp)"
    return isinstance(key, str) and re.fullmatch(form, key) is not None


def upload_folder(owner: str | None) -> str:
    """Return the beginning of the keys of this owner's uploads."""
    # A hash, because the name of an owner may be a person's, and may have any characters.
    return f"{UPLOADS}{_NOBODY if owner is None else hashlib.sha256(owner.encode()).hexdigest()[:32]}/"


def submission_key(job_id: str) -> str:
    """Return the key of the copy of what a client asked for. It follows from the id of the job alone."""
    return _key(SUBMISSIONS, job_id, "json")


def job_of_submission(key: str) -> str | None:
    """Return the id of the job whose copy lies at `key`; None if no copy has such a key."""
    found = re.fullmatch(rf"{SUBMISSIONS}[0-9a-f]{{2}}/([0-9a-f]{{32}})\.json", key)
    return found[1] if found and submission_key(found[1]) == key else None


def is_artifact_key(artifact: str, key: str) -> bool:
    """Return whether `key` is a possible key of this kind of artifact."""
    return re.fullmatch(rf"{ARTIFACTS}{artifact}/[0-9a-f]{{2}}/[0-9a-f]{{64}}\.(png|json|safetensors)", key) is not None


def _key(folder: str, name: str, extension: str) -> str:
    return f"{folder}{name[:2]}/{name}.{extension}"
