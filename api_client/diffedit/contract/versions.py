"""How versions of clients and workers live side by side.

Every record, message and announcement of a worker has a contract number. A record's number is the lowest contract that
can serve the job, so a worker of an older version still serves what it understands, and hands on what it does not.

- Readers ignore fields that they do not know.
- A field that is newer than the first contract is marked with `Since`, and it is left out at its default, because a
  reader of 0.2.0 refuses fields that it does not know.
- A newer field that an older version may ignore is marked with `Hint` instead. It is recorded apart, so that everybody
  can read and serve the job.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

CONTRACT = 2
"""The contract of this version. Increase it together with a new field, stage or artifact.

1: version 0.2.0, whose records and announcements have no number. 2: version 0.3.0.
"""


@dataclass(frozen=True)
class Since:
    """Marks a field, as in `Annotated[int, Since(3)]`, with the first contract that knows it."""

    contract: int


@dataclass(frozen=True)
class Hint:
    """Marks a field that older versions may ignore: they serve the job as if the field had its default."""


def needed_contract(*models: BaseModel) -> int:
    """Return the lowest contract that understands these values: 1, unless they use a newer field."""
    return max((since.contract for model in models for since, is_used in _marked(model) if is_used), default=1)


def dump_json(model: BaseModel) -> str:
    """Return the model as JSON, without its hints and the newer fields that have their default values."""
    return model.model_dump_json(exclude=not_recorded(model))


def hints_of(model: BaseModel) -> dict[str, Any]:
    """Return the hints that do not have their default values, in the form of `model_dump`; also of models in this."""
    hints: dict[str, Any] = {}
    for field in _fields(type(model)):
        name, value = field.name, getattr(model, field.name)
        if isinstance(value, BaseModel):
            hints |= {name: within} if (within := hints_of(value)) else {}
        elif field.is_hint and not field.is_default(value):
            hints[name] = value
    return hints


def with_hints(fields: Any, hints: Any) -> Any:
    """Return what `dump_json` wrote, read as JSON, together with `hints_of` the same model."""
    if not (isinstance(fields, dict) and isinstance(hints, dict)):
        return hints
    return {**fields, **{name: with_hints(fields.get(name), hint) for name, hint in hints.items()}}


def _marked(model: BaseModel) -> Iterator[tuple[Since, bool]]:
    """Yield the mark of each newer field, and whether the field is used; also for models in this one."""
    for field in _fields(type(model)):
        value = getattr(model, field.name)
        if isinstance(value, BaseModel):
            yield from _marked(value)
        if field.since:
            yield field.since, not field.is_default(value)


def not_recorded(model: BaseModel) -> dict[str, Any]:
    """Return the hints and the newer fields at their defaults, in the form that pydantic's `exclude` has."""
    fields: dict[str, Any] = {}
    for field in _fields(type(model)):
        name, value = field.name, getattr(model, field.name)
        if field.is_hint or (field.since and field.is_default(value)):
            fields[name] = True
        elif isinstance(value, BaseModel) and (within := not_recorded(value)):
            fields[name] = within
    return fields


class _Field(NamedTuple):
    """What matters here of a field of a model."""

    name: str
    info: FieldInfo
    since: Since | None
    is_hint: bool

    def is_default(self, value: Any) -> bool:
        return bool(value == self.info.get_default(call_default_factory=True))


@functools.cache
def _fields(model: type[BaseModel]) -> Sequence[_Field]:
    return [
        _Field(
            name,
            info,
            since=next((mark for mark in info.metadata if isinstance(mark, Since)), None),
            is_hint=any(isinstance(mark, Hint) for mark in info.metadata),
        )
        for name, info in model.model_fields.items()
    ]
