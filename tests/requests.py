"""Requests and keys for tests."""

from typing import Any

from api_client.contract import EditParams, EditRequest

IMAGE = f"inputs/ab/{'ab' * 32}.png"
MASK = f"inputs/cd/{'cd' * 32}.png"
TEXTS = {"source_prompt": "a bowl of fruits", "target_prompt": "a bowl of pears"}


def a_request(params: dict[str, Any] | None = None, **fields: Any) -> EditRequest:
    """A request with two prompts, unless `fields` ask otherwise."""
    texts = {} if {"source_concept", "target_prompt"} & fields.keys() else TEXTS
    fields = {"image": IMAGE, **texts, **fields}
    return EditRequest(**fields, params=EditParams(**{"model": "tiny", **(params or {})}))
