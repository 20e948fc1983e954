"""Which objects in the bucket the records of jobs name."""

import json
import re
from collections.abc import Collection, Mapping, Set
from contextlib import suppress

from diffedit.contract.object_keys import OBJECT_KEY
from diffedit.contract.stages import Artifact
from diffedit.jobs.records import request_in


def object_keys_in(fields: Mapping[str, str]) -> set[str]:
    """Return all keys of objects that a record mentions anywhere. Also of a record that cannot be read."""
    return {match[0] for value in fields.values() for match in re.finditer(OBJECT_KEY, value)}


def objects_of(fields: Mapping[str, str]) -> set[str]:
    """Return the keys of the objects that a record names as the job's own. What users wrote is not searched."""
    with suppress(ValueError, RecursionError):
        request = json.loads(fields.get("request", ""))
        pictures = [request.get(name) for name in ("image", "mask")] if isinstance(request, dict) else []
        made = [fields.get(f"artifact:{artifact.value}") for artifact in Artifact]
        return {key for key in (*pictures, *made) if isinstance(key, str) and re.fullmatch(OBJECT_KEY, key)}
    return set()


def unused_of(fields: Mapping[str, str], objects: Collection[str], mentioned: Set[str]) -> set[str]:
    """Return those objects of a job that no other job can need. `mentioned` are those of jobs with the same picture.

    What depends on texts only is left out: jobs with other pictures may have it as well.
    """
    try:
        request = request_in(fields)
    except (LookupError, ValueError, TypeError, RecursionError):
        return set()
    texts = {fields.get(f"artifact:{each.value}") for each in Artifact if not request.is_of_picture(each)}
    return set(objects) - mentioned - texts
