"""Faults of stored artifacts: they are deleted, truncated, changed and swapped.

No fault touches an uploaded picture, which nothing could make again. The damage is done through S3, because the server
does not notice changes of its files.
"""

import io
import json
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmarks.chaos.system import Fault, System
from diffedit.contract.object_keys import ARTIFACTS, companion_keys
from diffedit.errors import DiffEditError

log = logging.getLogger(__name__)

MOST = 5
"""Artifacts that one fault damages, at most."""


def delete_artifacts(system: System, fault: Fault) -> bool:
    return _damage(system, _some(system.artifact_keys(), fault), system.object_store.delete)


def truncate_artifacts(system: System, fault: Fault) -> bool:
    def truncate(key: str) -> None:
        data = system.object_store.get(key)
        system.object_store.put(key, data[: len(data) // 2])

    return _damage(system, _some(system.artifact_keys(), fault), truncate)


def change_artifacts(system: System, fault: Fault) -> bool:
    """Change one value in artifacts that remain valid in form."""

    def change(key: str) -> None:
        system.object_store.put(key, changed(key, system.object_store.get(key)))

    return _damage(system, _some(_checked(system), fault), change)


def swap_artifacts(system: System, fault: Fault) -> bool:
    """Give two artifacts of one kind each other's content: two results, and two of any kind."""
    rng = random.Random(fault.pick)
    kinds: dict[str, list[str]] = defaultdict(list)
    for key in _checked(system):
        kinds[key.split("/")[1]].append(key)
    chosen = [kind for kind in ("result", rng.choice([*sorted(kinds), "result"])) if len(kinds[kind]) > 1]
    swapped = [_swap(system, rng.sample(kinds[kind], 2)) for kind in chosen]
    return any(swapped)


def _swap(system: System, pair: Sequence[str]) -> bool:
    contents: list[bytes] = []
    with suppress(DiffEditError):
        contents = [system.object_store.get(key) for key in pair]
    if len(set(contents)) < 2:
        return False
    other = dict(zip(pair, reversed(contents), strict=True))
    return _damage(system, pair, lambda key: system.object_store.put(key, other[key]))


def changed(key: str, data: bytes) -> bytes:
    """Return the file of an artifact with one other value, so that it can still be decoded."""
    if key.endswith(".png"):
        return _changed_png(data)
    if key.endswith(".json"):
        return json.dumps(_changed_text(json.loads(data))).encode()
    # The last byte of a safetensors file holds the sign of a number in little-endian order.
    return data[:-1] + bytes([data[-1] ^ 0x80])


def _changed_png(data: bytes) -> bytes:
    image = Image.open(io.BytesIO(data))
    texts = PngInfo()
    for name, text in getattr(image, "text", {}).items():
        texts.add_itxt(name, text)
    pixels = bytearray(image.tobytes())
    pixels[len(pixels) // 2] ^= 0x80
    buffer = io.BytesIO()
    Image.frombytes(image.mode, image.size, bytes(pixels)).save(
        buffer, "PNG", icc_profile=image.info.get("icc_profile"), pnginfo=texts
    )
    return buffer.getvalue()


def _changed_text(value: object) -> object:
    """Return the caption, or the prompts, with another word in it."""
    if isinstance(value, dict):
        return {name: _changed_text(each) for name, each in value.items()}
    return [_changed_text(each) for each in value] if isinstance(value, list) else f"{value}, upside down"


def _checked(system: System) -> list[str]:
    """Return the artifacts whose content is known, without manifests and thumbnails: nothing computes with them."""
    keys = set(system.artifact_keys()) - system.unchecked_keys
    results = {key.rpartition(".")[0] for key in keys if key.startswith(f"{ARTIFACTS}result/") and key.endswith(".png")}
    beside = {companion for result in results for companion in companion_keys(f"{result}.png")}
    return sorted(keys - beside)


def _some(keys: Sequence[str], fault: Fault) -> list[str]:
    return random.Random(fault.pick).sample(keys, min(MOST, len(keys)))


def _damage(system: System, keys: Sequence[str], damage: Callable[[str], None]) -> bool:
    for key in keys:
        log.info("damaging %s", key)
        system.damaged_keys.append(key)
        # The artifact may have just disappeared, or S3 may be down.
        with suppress(DiffEditError):
            damage(key)
    return bool(keys)
