"""Whose a job is, what it is labelled with, and what an owner may ask for."""

from typing import Annotated

from pydantic import AfterValidator, Field

from diffedit.contract.validation import StrictNumbers

MAX_OWNER = 200
"""Characters of an owner, at most."""
MAX_TAGS = 10
MAX_TAG_NAME, MAX_TAG_VALUE = 40, 100
"""Characters of the name and of the value of a tag, at most."""


def _checked_owner(owner: str) -> str:
    if not (1 <= len(owner) <= MAX_OWNER and owner.isprintable()):
        raise ValueError(f"must be a text of 1 to {MAX_OWNER} printable characters")
    return owner


def _checked_tags(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > MAX_TAGS:
        raise ValueError(f"must be {MAX_TAGS} tags at most")
    for name, value in tags.items():
        # The command line writes a tag as NAME=VALUE.
        if not (1 <= len(name) <= MAX_TAG_NAME and name.isprintable() and "=" not in name):
            raise ValueError(f"the name of a tag must have 1 to {MAX_TAG_NAME} printable characters and no '='")
        if not (len(value) <= MAX_TAG_VALUE and (value.isprintable() or not value)):
            raise ValueError(f"the value of a tag must have at most {MAX_TAG_VALUE} characters, all printable")
    return tags


Owner = Annotated[str, AfterValidator(_checked_owner)]
"""Names whose a job is: 1 to 200 printable characters, compared as they are."""
Tags = Annotated[dict[str, str], AfterValidator(_checked_tags)]
"""Labels of a job."""


class OwnerLimits(StrictNumbers):
    """What an owner may ask for, and how often it is its turn. None is no limit."""

    max_queued: int | None = Field(default=None, ge=0, lt=2**31)
    """Jobs of the owner that wait for their first stage. 0 lets the owner submit nothing."""
    max_running: int | None = Field(default=None, ge=1, lt=2**31)
    """Jobs of the owner that run at the same time. Further ones wait."""
    max_pixels: int | None = Field(default=None, ge=1, lt=2**31)
    """Pixels of a picture."""
    max_steps: int | None = Field(default=None, ge=1, lt=2**31)
    """`num_inference_steps` of a job."""
    weight: float = Field(default=1, ge=0.01, le=100)
    """How many turns the owner has for each turn of an owner with weight 1, while jobs of several wait in a queue."""
