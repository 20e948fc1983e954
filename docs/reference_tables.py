"""The tables of the reference, made from the models, the settings, the errors and the commands themselves.

Each function of `TABLES` returns Markdown. Meanings are the docstrings of the code. A field, an error or a command
without a meaning stops the build.
"""

import ast
import inspect
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from diffedit import EditParams, EditRequest, JobOptions, Settings, State, cli, errors

Row = Sequence[str]


def parameters() -> str:
    schema = EditParams.model_json_schema()
    rows = [
        (
            f"`{name}`",
            _type(schema["properties"][name]),
            _range(schema["properties"][name]),
            _default(EditParams.model_fields[name]),
            meaning,
        )
        for name, meaning in _meanings(EditParams)
    ]
    return _markdown(("name", "type", "range", "default", "meaning"), rows)


def request() -> str:
    schema = EditRequest.model_json_schema()
    rows = [
        (f"`{name}`", _type(schema["properties"][name], schema), meaning)
        for name, meaning in _meanings(EditRequest)
        if name != "params"
    ]
    return _markdown(("name", "type", "meaning"), rows)


def options() -> str:
    schema = JobOptions.model_json_schema()
    rows = [
        (
            f"`{name}`",
            _type(schema["properties"][name], schema),
            _range(schema["properties"][name]),
            _default(JobOptions.model_fields[name]),
            meaning,
        )
        for name, meaning in _meanings(JobOptions)
    ]
    return _markdown(("name", "type", "range", "default", "meaning"), rows)


def settings() -> str:
    return _settings_table(Settings, skipped=())


def worker_settings() -> str:
    from diffedit_worker.settings import WorkerSettings

    return _settings_table(WorkerSettings, skipped=Settings.model_fields)


def error_classes() -> str:
    rows = []
    for depth, error in _tree(errors.DiffEditError):
        public = error.__name__ in _public_names()
        name = f"[`{error.__name__}`][diffedit.{error.__name__}]" if public else f"`{error.__name__}`"
        rows.append(("&nbsp;&nbsp;&nbsp;&nbsp;" * depth + name, f"`{error.code}`", _doc(error)))
    return _markdown(("class", "code", "when, and what to do"), rows)


def job_states() -> str:
    meanings = _attribute_docstrings(State)
    rows = [(f"`{state.name}`", f"`{state.value}`", _required(meanings, state.name, State)) for state in State]
    return _markdown(("state", "value", "meaning"), rows)


def exit_codes() -> str:
    from diffedit.cli.exit_codes import EXIT_CODES

    rows = [
        (str(row.code), row.meaning, ", ".join(f"`{error.__name__}`" for error in row.errors)) for row in EXIT_CODES
    ]
    return _markdown(("exit code", "meaning", "errors"), rows)


def commands() -> str:
    group: Any = typer.main.get_command(cli.app)
    context = group.context_class(group, info_name="diffedit")
    return "\n\n".join(_command(group.commands[name], context) for name in group.list_commands(context))


def retry_policies() -> str:
    from diffedit import retries

    rows = [line for line in (inspect.getdoc(retries) or "").splitlines() if line.startswith("|")]
    if not rows:
        raise LookupError("diffedit.retries has no table in its docstring")
    return "\n".join(rows)


def layers() -> str:
    """Return the layers that import-linter checks, a table for each package."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    tables = []
    for contract in project["tool"]["importlinter"]["contracts"]:
        if contract["type"] != "layers":
            continue
        (package,) = contract["containers"]
        rows = [(", ".join(f"`{name.strip()}`" for name in layer.split("|")),) for layer in contract["layers"]]
        tables.append(_markdown((f"`{package}`, from the top",), rows))
    return "\n\n".join(tables)


def public_names() -> str:
    import diffedit
    from diffedit import testing

    rows = []
    for module in (diffedit, testing):
        for name in sorted(module.__all__):
            value = getattr(module, name)
            # Only classes and functions have a docstring of their own.
            described = inspect.isclass(value) or inspect.isfunction(value)
            meaning = _doc(value).partition(". ")[0].rstrip(".") if described else f"`{value}`"
            rows.append((f"`{module.__name__}.{name}`", meaning if described or isinstance(value, int) else ""))
    return _markdown(("name", "what it is"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "parameters": parameters,
    "request": request,
    "options": options,
    "settings": settings,
    "worker-settings": worker_settings,
    "errors": error_classes,
    "job-states": job_states,
    "exit-codes": exit_codes,
    "commands": commands,
    "public-names": public_names,
    "retries": retry_policies,
    "layers": layers,
}


def _settings_table(model: type[BaseModel], skipped: Iterable[str]) -> str:
    schema = model.model_json_schema(by_alias=False)
    rows = []
    for name, meaning in _meanings(model):
        if name in skipped:
            continue
        field, facts = model.model_fields[name], schema["properties"][name]
        variables = "<br>or ".join(f"`{variable}`" for variable in _variables(field))
        kind = ", ".join(part for part in (_type(facts, schema), _range(facts)) if part)
        rows.append((variables, kind, _default(field), meaning))
    return _markdown(("variable", "type", "default", "meaning"), rows)


def _variables(field: FieldInfo) -> list[str]:
    alias = field.validation_alias or field.alias
    assert alias is not None
    return [alias] if isinstance(alias, str) else [str(choice) for choice in alias.choices]


def _meanings(model: type[BaseModel]) -> list[tuple[str, str]]:
    docstrings = _attribute_docstrings(model)
    return [
        (name, field.description or _required(docstrings, name, model)) for name, field in model.model_fields.items()
    ]


def _required(meanings: Mapping[str, str], name: str, owner: type) -> str:
    if name not in meanings:
        raise LookupError(f"{owner.__module__}.{owner.__name__}.{name} has no docstring for the reference")
    return meanings[name]


def _attribute_docstrings(owner: type) -> dict[str, str]:
    """Return the string that follows each assignment in the body of a class and of its bases."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.partition(".")[0] not in ("diffedit", "diffedit_worker"):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, following in zip(definition.body, definition.body[1:], strict=False):
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            value = following.value if isinstance(following, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
                found |= dict.fromkeys(names, _one_line(value.value))
    return found


def _type(facts: Mapping[str, Any], schema: Mapping[str, Any] | None = None) -> str:
    """Return the type of a field of a JSON schema, as a reader would say it."""
    if "$ref" in facts and schema:
        return _type(schema["$defs"][facts["$ref"].rpartition("/")[2]], schema)
    if "allOf" in facts:
        return _type(facts["allOf"][0], schema)
    if "anyOf" in facts:
        kinds = [_type(each, schema) for each in facts["anyOf"] if each.get("type") != "null"]
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


def _range(facts: Mapping[str, Any]) -> str:
    for each in (facts, *facts.get("anyOf", ())):
        signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
        bounds = [f"{sign} {_number(each[name])}" for name, sign in signs.items() if name in each]
        if bounds:
            return ", ".join(bounds)
    return ""


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _default(field: FieldInfo) -> str:
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
    return f'`"{value}"`' if isinstance(value, str) and not isinstance(value, Enum) else f"`{value}`"


def _tree(error: type[errors.DiffEditError], depth: int = 0) -> Iterator[tuple[int, type[errors.DiffEditError]]]:
    yield depth, error
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child, depth + 1)


def _public_names() -> frozenset[str]:
    import diffedit

    return frozenset(diffedit.__all__)


def _command(command: Any, parent: Any) -> str:
    """Return a section on one command. Typer brings its own copy of click, so that the types are left open."""
    context = command.context_class(command, info_name=command.name, parent=parent)
    usage = command.get_usage(context).removeprefix("Usage: ")
    rows = [
        _parameter(each, context) for each in command.get_params(context) if each.name != "help" and not each.hidden
    ]
    table = _markdown(("argument or option", "default", "meaning"), rows) if rows else ""
    parts = [
        f"## diffedit {command.name}",
        inspect.cleandoc(command.help or ""),
        f"```text\n{usage}\n```",
        table,
        f"```text\n{inspect.cleandoc(command.epilog)}\n```" if command.epilog else "",
    ]
    return "\n\n".join(parts)


def _parameter(parameter: Any, context: Any) -> Row:
    if parameter.param_type_name == "argument":
        name = f"`{_placeholder(parameter)}`"
    else:
        options = [*parameter.opts, *parameter.secondary_opts]
        value = "" if parameter.is_flag else f" {_placeholder(parameter)}"
        name = (
            ", ".join(f"`{option}`" for option in options[:-1]) + ", " * (len(options) > 1) + f"`{options[-1]}{value}`"
        )
    default = parameter.default
    if parameter.required:
        shown = "required"
    elif default in (None, False, ()) or callable(default):
        shown = ""
    else:
        shown = f"`{getattr(default, 'value', default)}`"
    if not parameter.help:
        raise LookupError(f"diffedit {context.info_name}: {parameter.name} has no help text for the reference")
    return name, shown, parameter.help


def _placeholder(parameter: Any) -> str:
    """Return what stands for the value: the name of an argument, the choices or the type of an option."""
    if parameter.metavar or parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    kind = parameter.type_descriptor.annotation
    if issubclass(kind, Enum):
        return "/".join(str(each.value) for each in kind)
    return {int: "INTEGER", float: "NUMBER", Path: "PATH"}.get(kind, "TEXT")


def _doc(value: Any) -> str:
    text = inspect.getdoc(value)
    if not text:
        raise LookupError(f"{value!r} has no docstring for the reference")
    return _one_line(text.partition("\n\nAttributes:")[0])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _markdown(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
