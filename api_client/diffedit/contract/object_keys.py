"""Where objects are stored in the bucket: their keys, and the patterns that valid keys match.

Every key ends with 64 hex digits and an extension: uploads are named by the SHA-256 of their content, derived artifacts
by the hash of everything that they are made from. Two of the digits are repeated as a folder.
"""

import hashlib
import re

INPUTS, ARTIFACTS = "inputs/", "artifacts/"
FOLDERS = (INPUTS, ARTIFACTS)
"""Everything that this project stores. Other objects in the bucket are left alone."""

OBJECT_KEY = rf"(?:{INPUTS}|{ARTIFACTS}[a-z_]+/)[0-9a-f]{{2}}/[0-9a-f]{{64}}\.[a-z]+"
"""The form of every key, also of artifacts that this version does not know."""
INPUT_KEY = rf"^{INPUTS}[0-9a-f]{{2}}/[0-9a-f]{{64}}\.(png|jpg|webp)$"


def input_key(data: bytes, extension: str) -> str:
    """Return the key of an uploaded picture. It depends on the content, so that each picture is stored once."""
    return _key(INPUTS, hashlib.sha256(data).hexdigest(), extension)


def artifact_key(artifact: str, inputs_hash: str, extension: str) -> str:
    """Return the key of a derived artifact. `inputs_hash` (64 hex digits) is the hash of what it is made from."""
    return _key(f"{ARTIFACTS}{artifact}/", inputs_hash, extension)


def manifest_key(result_key: str) -> str:
    """Return the key of the manifest that is stored beside a result."""
    return result_key.rpartition(".")[0] + ".json"


def is_artifact_key(artifact: str, key: str) -> bool:
    """Return whether `key` is a possible key of this kind of artifact."""
    return re.fullmatch(rf"{ARTIFACTS}{artifact}/[0-9a-f]{{2}}/[0-9a-f]{{64}}\.(png|json|safetensors)", key) is not None


def _key(folder: str, name: str, extension: str) -> str:
    return f"{folder}{name[:2]}/{name}.{extension}"
