"""How versions of clients and workers live side by side.

Every record, message and announcement of a worker has a contract number. A record's number is the lowest contract that
can serve the job, so a worker of an older version still serves what it understands, and hands on what it does not.

- Readers ignore fields that they do not know.
- A field that is newer than the first contract is marked with `Since`, and it is left out at its default, because a
  reader of 0.2.0 refuses fields that it does not know.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

CONTRACT = 2
"""The contract of this version. Increase it together with a new field, stage or artifact.

1: version 0.2.0, whose records and announcements have no number. 2: version 0.3.0.
"""


@dataclass(frozen=True)
class Since:
    """Marks a field, as in `Annotated[int, Since(3)]`, with the first contract that knows it."""

    contract: int


def needed_contract(*models: BaseModel) -> int:
    """Return the lowest contract that understands these values: 1, unless they use a newer field."""
    return max((since.contract for model in models for since, is_used in _marked(model) if is_used), default=1)


def dump_json(model: BaseModel) -> str:
    """Return the model as JSON, without the newer fields that have their default values."""
    return model.model_dump_json(exclude=unused_fields(model))


def _marked(model: BaseModel) -> Iterator[tuple[Since, bool]]:
    """Yield the mark of each newer field, and whether the field is used; also for models in this one."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _marked(value)
        for mark in field.metadata:
            if isinstance(mark, Since):
                yield mark, value != field.get_default(call_default_factory=True)


def unused_fields(model: BaseModel) -> dict[str, Any]:
    """Return the newer fields at their defaults, in the form that pydantic's `exclude` has."""
    unused: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        is_new = any(isinstance(mark, Since) for mark in field.metadata)
        if is_new and value == field.get_default(call_default_factory=True):
            unused[name] = True
        elif isinstance(value, BaseModel) and (within := unused_fields(value)):
            unused[name] = within
    return unused
