"""What a request for an edit may contain, made from the client's own models, so that both always agree."""

import json
import re
from typing import Annotated, Any, Optional

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from diffedit import EditParams, EditRequest, InvalidRequest, JobOptions
from diffedit.contract.validation import explain
from diffedit_web.bodies import Body

TEXTS = ("source_prompt", "target_prompt", "source_concept", "target_concept", "caption", "negative_prompt")
SERVICE = ("lane", "start_timeout", "deadline", "tags", "keep", "webhook")
UPLOADED = "uploaded"
_TAG = re.compile(r"tags\[(?P<name>.*)\]", re.DOTALL)
"""How a form writes an entry of a JSON object."""
_EXAMPLES: dict[str, Any] = {
    "source_prompt": "a bowl of fruits",
    "target_prompt": "a bowl of pears",
    "seed": 7,
    "tags": {"album": "9"},
    "webhook": "https://example.com/hooks",
}


def _optional(name: str, field: FieldInfo, *, null: bool) -> tuple[Any, Any]:
    """Return a field that may be left out: the client knows its default. JSON may say so with null, a form cannot."""
    metadata = tuple(field.metadata)
    annotation = Annotated[(field.annotation, *metadata)] if metadata else field.annotation
    examples = [_EXAMPLES[name]] if name in _EXAMPLES else None
    description = " ".join((field.description or "").split())
    described = Field(default=None, description=description, examples=examples, json_schema_extra=_without_default)
    return (Optional[annotation] if null else annotation), described  # noqa: UP045


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


def _fields(*, null: bool) -> dict[str, Any]:
    preset = FieldInfo(
        annotation=str,
        description='Named parameter defaults: "guide", or a preset of the profile, such as "draft", which '
        '`GET /v1/models` lists. Parameters that you give have priority. Default: "default", the profile\'s own.',
    )
    params = {name: EditParams.model_fields[name] for name in EditParams.model_fields}
    known = {
        **{name: EditRequest.model_fields[name] for name in TEXTS},
        "preset": preset,
        **params,
        **{name: JobOptions.model_fields[name] for name in SERVICE},
    }
    return {name: _optional(name, field, null=null) for name, field in known.items()}


_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)
_OPTIONS = create_model("EditOptions", __config__=_CONFIG, **_fields(null=True))
"""The options of an edit."""
_UPLOADED = (str, Field(description="The key of an upload, as `POST /v1/uploads` returns it.", max_length=300))

EditJson: type[BaseModel] = create_model(
    "EditJson",
    __config__=ConfigDict(**_CONFIG, title="EditJson"),
    __doc__="What to edit and how: a picture that was uploaded before, and the options of the edit.",
    **{UPLOADED: _UPLOADED, **_fields(null=True)},
)
EditForm: type[BaseModel] = create_model(
    "EditForm",
    __config__=ConfigDict(**_CONFIG, title="EditForm"),
    __doc__="What to edit and how: the file of a picture, perhaps one of a mask, and the options of the edit.",
    image=(bytes, Field(description="The picture: a PNG, JPEG or WebP file.")),
    mask=_optional(
        "mask",
        FieldInfo(annotation=bytes, description="A picture of the same size, white where the picture may change."),
        null=False,
    ),
    **_fields(null=False),
)


def options_of(body: Body) -> dict[str, Any]:
    """Return the keyword arguments of `Client.edit` that a body contains, without files and uploads.

    A form has texts only, so those that stand for numbers are converted. The client checks the values again.

    Raises:
        InvalidRequest: a name is unknown, or a value cannot be what its name says.
    """
    given = {name: value for name, value in _with_tags(body).items() if name != UPLOADED}
    try:
        # From JSON, so that "interactive" is a lane and 7 no text, as in JSON.
        options = _OPTIONS.model_validate_json(json.dumps(given), strict=not body.is_form)
    except ValidationError as error:
        raise InvalidRequest(explain(error, known=_OPTIONS.model_fields)) from None
    return options.model_dump(exclude_unset=True, exclude_none=True)


def _with_tags(body: Body) -> dict[str, Any]:
    """Return the values of a body, with the tags of a form as an object: `tags` as JSON, or `tags[NAME]` each."""
    if not body.is_form:
        return dict(body.values)
    values: dict[str, Any] = {}
    tags: dict[str, Any] = {}
    for name, value in body.values.items():
        if value == "":  # a page sends each field of its form, also those that nobody filled in
            continue
        if entry := _TAG.fullmatch(name):
            tags[entry["name"]] = value
        else:
            values[name] = value
    if "tags" in values:
        try:
            values["tags"] = json.loads(values["tags"])
        except (ValueError, RecursionError):
            raise InvalidRequest('tags: write them as JSON, such as {"album": "9"}, or as fields tags[album]') from None
    return values | ({"tags": tags} if tags else {})
