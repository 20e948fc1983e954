"""The sections of the reference of the HTTP API, made from its description (OpenAPI)."""

from collections.abc import Mapping
from typing import Any

from reference_cells import markdown, one_line, range_of

HTTP_MODELS = ("EditForm", "EditJson", "Edit", "Upload", "HealthReport", "Problem")
"""The models that have a table of their own."""


def operation_section(method: str, path: str, operation: Mapping[str, Any]) -> str:
    """Return a section on one operation: what it does, its parameters, its body, its answers."""
    parameters = [
        (f"`{each['name']}`", each["in"], _type(each["schema"]), one_line(each["description"]))
        for each in operation.get("parameters", ())
    ]
    answers = [
        (status, _link_to(answer), one_line(answer["description"]))
        for status, answer in sorted(operation["responses"].items())
    ]
    bodies = operation.get("requestBody", {}).get("content", {})
    body = "; ".join(f"`{kind}`: {_type(media['schema'])}" for kind, media in bodies.items())
    parts = [
        f"## {method} {path}",
        operation["description"],
        markdown(("parameter", "in", "type", "meaning"), parameters) if parameters else "",
        f"Body: {body}." if body else "",
        markdown(("status", "answer", "meaning"), answers),
    ]
    return "\n\n".join(part for part in parts if part)


def model_section(name: str, model: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """Return a section on one model: a table of its fields. Of a body, it says which are required."""
    is_body = model.get("additionalProperties") is False
    needed = set(model.get("required", ())) if is_body else set()
    rows = []
    for field, schema in model["properties"].items():
        kind = ", ".join(part for part in (_type(schema, schemas), range_of(schema)) if part)
        if not is_body and {"type": "null"} in schema.get("anyOf", ()):
            kind += " or null"
        rows.append((f"`{field}`", kind + (", required" if field in needed else ""), _meaning(schema, schemas)))
    return "\n\n".join([f"## {name}", one_line(model["description"]), markdown(("field", "type", "meaning"), rows)])


def _link_to(answer: Mapping[str, Any]) -> str:
    """Return what an answer contains, with a link if it has a section of its own."""
    kinds = [f"`{kind}`" if kind.startswith(("image/", "text/")) else _type(media["schema"])
             for kind, media in answer.get("content", {}).items()]  # fmt: skip
    return ", ".join(dict.fromkeys(kinds))


def _type(schema: Mapping[str, Any], schemas: Mapping[str, Any] | None = None) -> str:
    """Return the type of a field as a reader would say it."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if schemas and "enum" in schemas.get(name, {}):
            return _type(schemas[name])
        return f"[{name}](#{name.lower()})" if name in HTTP_MODELS else f"`{name}`"
    if "anyOf" in schema:
        kinds = [_type(each, schemas) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return ", ".join(f'`"{value}"`' for value in schema["enum"])
    if "const" in schema:
        return f'`"{schema["const"]}"`'
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'], schemas)}"
    if schema.get("format") in ("binary", "date-time"):
        return {"binary": "file", "date-time": "time"}[schema["format"]]
    if "maxLength" in schema:
        return f"text, at most {schema['maxLength']} characters"
    names = {"integer": "int", "number": "float", "boolean": "bool", "string": "text"}
    return names.get(schema.get("type", ""), schema.get("type", ""))


def _meaning(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """Return the description of a field, or that of the model that it holds."""
    if "description" in schema:
        return one_line(schema["description"])
    name = schema.get("$ref", "").rpartition("/")[2]
    return one_line(schemas.get(name, {}).get("description", ""))
