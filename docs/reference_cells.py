"""The cells of the reference's tables: docstrings, and the types, ranges and defaults of fields."""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import pairwise
from types import ModuleType
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Row = Sequence[str]

UNITS = {"retention": (24 * 3600, "days"), "cache_bytes": (2**20, "MiB")}
"""The fields whose defaults are large numbers, with a unit in which they are small ones."""


def meanings_of(model: type[BaseModel]) -> list[tuple[str, str]]:
    """Return the name of each field of the model, with its docstring as one line."""
    docstrings = attribute_docstrings(model)
    return [(name, required(docstrings, name, model)) for name in model.model_fields]


def required(meanings: Mapping[str, str], name: str, owner: type | ModuleType) -> str:
    """Return the docstring of a name. Raises LookupError if it has none."""
    if name not in meanings:
        raise LookupError(f"{owner.__name__}.{name} has no docstring for the reference")
    return meanings[name]


def attribute_docstrings(owner: type) -> dict[str, str]:
    """Return the string that follows each assignment in the body of a class and of its bases."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.partition(".")[0] not in ("diffedit", "diffedit_worker"):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        found |= _docstrings_in(definition.body)
    return found


def constant_docstrings(*modules: ModuleType) -> dict[str, str]:
    """Return the string that follows each assignment at the top level of the modules."""
    return {
        name: text
        for module in modules
        for name, text in _docstrings_in(ast.parse(inspect.getsource(module)).body).items()
    }


def _docstrings_in(body: Sequence[ast.stmt]) -> dict[str, str]:
    found: dict[str, str] = {}
    for statement, following in pairwise(body):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = following.value if isinstance(following, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            found |= dict.fromkeys(names, one_line(value.value))
    return found


def type_of(facts: Mapping[str, Any], schema: Mapping[str, Any] | None = None) -> str:
    """Return the type of a field of a JSON schema, as a reader would say it."""
    if "$ref" in facts and schema:
        return type_of(schema["$defs"][facts["$ref"].rpartition("/")[2]], schema)
    if "allOf" in facts:
        return type_of(facts["allOf"][0], schema)
    if "anyOf" in facts:
        kinds = [type_of(each, schema) for each in facts["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in facts:
        values = [f'`"{value}"`' for value in facts["enum"]]
        return " or ".join(values) if len(values) < 4 else "one of " + ", ".join(values)
    if "const" in facts:
        return f'`"{facts["const"]}"`'
    if "maxLength" in facts:
        return f"text, at most {facts['maxLength']} characters"
    names = {"integer": "int", "number": "float", "boolean": "bool", "string": "text", "object": "text"}
    return names.get(facts.get("type", ""), facts.get("type", ""))


def range_of(facts: Mapping[str, Any]) -> str:
    for each in (facts, *facts.get("anyOf", ())):
        signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
        bounds = [f"{sign}&nbsp;{_number(each[name])}" for name, sign in signs.items() if name in each]
        if bounds:
            return ", ".join(bounds)
    return ""


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def default_of(name: str, field: FieldInfo) -> str:
    """Return the default of a field, in code that is not broken into lines."""
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "computed"
    value = field.default
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        # Of a setting with parts, such as the timeouts of stages, the first one is the value of all.
        value = next(iter(value.model_dump().values()))
    text = f'`"{value}"`' if isinstance(value, str) and not isinstance(value, Enum) else f"`{value}`"
    size, unit = UNITS.get(name, (1, ""))
    return f"{text}{{.default}}" + (f" ({value // size} {unit})" if unit else "")


def docstring_of(value: Any) -> str:
    text = inspect.getdoc(value)
    if not text:
        raise LookupError(f"{value!r} has no docstring for the reference")
    return one_line(text.partition("\n\nAttributes:")[0])


def one_line(text: str) -> str:
    return " ".join(text.split())


def markdown(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
