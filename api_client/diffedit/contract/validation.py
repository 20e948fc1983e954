"""The base of all models that cross a process boundary, and the checked types that they share."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from diffedit.contract.object_keys import INPUT_KEY, is_artifact_key
from diffedit.contract.stages import Artifact

_ALTERNATIVE = re.compile(r"constrained-|literal\[")
"""In the path of a pydantic error: one of the types that a field may have."""
JOB_ID = re.compile("[0-9a-f]{32}")
TRACEPARENT = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""The header `traceparent` of W3C Trace Context, version 00: the trace, the parent span, and whether it is sampled."""


class Frozen(BaseModel):
    """An immutable model that refuses unknown fields, infinities and NaN. A field's docstring is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class StrictNumbers(Frozen):
    """A model whose numbers may be of Python, numpy or any other library. It refuses bools and texts as numbers."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _convert_numbers(cls, values: Any) -> Any:
        return {name: _plain(value) for name, value in values.items()} if isinstance(values, dict) else values


def _plain(value: Any) -> Any:
    """Return a number or a bool of numpy as Python's own, and everything else as it is."""
    if isinstance(value, bool | int):
        return value
    # numpy's bool can be converted to a float, so pydantic would accept it as a number.
    if str(getattr(value, "dtype", None)) == "bool":
        return bool(value)
    with suppress(OverflowError):
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real):
            return float(value)
    return value


def _clean_text(text: str) -> str:
    text = " ".join(text.split())
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise ValueError("must not contain control characters")
    if not text:
        raise ValueError("must not be empty")
    return text


def _keys_match_artifacts(keys: dict[Artifact, str]) -> dict[Artifact, str]:
    for artifact, key in keys.items():
        if not is_artifact_key(artifact.value, key):
            raise ValueError(f"the key of the {artifact.value} is not under artifacts/{artifact.value}/")
    return keys


def _checked_traceparent(text: str) -> str:
    if not TRACEPARENT.fullmatch(text):
        raise ValueError("must be a traceparent of W3C Trace Context, version 00")
    return text


MAX_TEXT_CHARS = 1000
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS), AfterValidator(_clean_text)]
ProfileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
JobId = Annotated[str, StringConstraints(pattern=rf"^{JOB_ID.pattern}$")]
InputKey = Annotated[str, StringConstraints(pattern=INPUT_KEY)]
"""The key of an uploaded picture."""
Traceparent = Annotated[str, AfterValidator(_checked_traceparent)]
ArtifactKeys = Annotated[dict[Artifact, str], AfterValidator(_keys_match_artifacts)]
"""The key of each artifact of a job that is already made."""


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON value in canonical form, as 64 hex digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def explain(error: ValidationError, known: Iterable[str] = ()) -> str:
    """Return a pydantic error as one line that names each field and its problem. The values are not repeated.

    For an unknown field, the line suggests the nearest name in `known`.
    """
    problems: dict[str, list[str]] = {}
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        path, problem = item["loc"], item["msg"].removeprefix("Value error, ")
        unknown = item["type"] == "extra_forbidden"
        if unknown:
            problem = f"unknown parameter{_suggestion(str(path[-1]), known)}"
        # The user gives parameters by their own names, without the group "params" that the request keeps them in.
        if path[:1] == ("params",) and not (unknown and len(path) == 1):
            path = path[1:]
        field = ".".join(str(part) for part in path if not _ALTERNATIVE.match(str(part)))
        problems.setdefault(field, []).append(problem)
    return "; ".join(f"{field}: {' or '.join(each)}" if field else "; ".join(each) for field, each in problems.items())


def _suggestion(name: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(name, known, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
