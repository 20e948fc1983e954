"""The tables of the reference, made from the models, the settings, the errors and the commands themselves.

Each function of `TABLES` returns Markdown. Meanings are the docstrings of the code. A field, an error or a command
without a meaning stops the build.
"""

import inspect
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from http_reference import HTTP_MODELS, model_section, operation_section
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from reference_cells import (
    Row,
    attribute_docstrings,
    constant_docstrings,
    default_of,
    docstring_of,
    markdown,
    meanings_of,
    range_of,
    required,
    type_of,
)

from diffedit import EditParams, EditRequest, JobOptions, Settings, State, cli, errors
from diffedit.contract.presets import DEFAULT
from diffedit.contract.stages import STAGE_OF
from diffedit_worker.models.profiles import load_profiles

DEFAULTS_OF_CLIENT = {"profile": "the configured or the served profile", "seed": "random"}
"""The parameters whose default the client finds out."""


def parameters() -> str:
    schema = EditParams.model_json_schema()
    rows = [
        (
            f"`{name}`",
            type_of(schema["properties"][name]),
            range_of(schema["properties"][name]),
            DEFAULTS_OF_CLIENT.get(name) or default_of(name, EditParams.model_fields[name]),
            meaning,
        )
        for name, meaning in meanings_of(EditParams)
    ]
    return markdown(("name", "type", "range", "default", "meaning"), rows)


def presets() -> str:
    """Return the parameters in which the presets of the built-in profiles differ from the guide's."""
    columns = {
        (name, preset): profile.params_of(preset)
        for name, profile in load_profiles().items()
        for preset in (DEFAULT, *profile.presets)
    }
    changed = [name for name in EditParams.model_fields if any(name in params for params in columns.values())]
    rows = [
        (
            f"`{name}`",
            default_of(name, EditParams.model_fields[name]),
            *(f"`{params[name]!r}`" if name in params else "" for params in columns.values()),
        )
        for name in changed
    ]
    return markdown(("parameter", "`guide`", *(f"`{name}`: `{preset}`" for name, preset in columns)), rows)


def request() -> str:
    schema = EditRequest.model_json_schema()
    # Every request provides the image, so it cannot be the goal.
    goals = {"goal": "one of " + ", ".join(f'`"{artifact}"`' for artifact in STAGE_OF)}
    rows = [
        (f"`{name}`", goals.get(name) or type_of(schema["properties"][name], schema), meaning)
        for name, meaning in meanings_of(EditRequest)
        if name != "params"
    ]
    return markdown(("name", "type", "meaning"), rows)


def options() -> str:
    schema = JobOptions.model_json_schema()
    rows = [
        (
            f"`{name}`",
            type_of(schema["properties"][name], schema),
            range_of(schema["properties"][name]),
            default_of(name, JobOptions.model_fields[name]),
            meaning,
        )
        for name, meaning in meanings_of(JobOptions)
    ]
    return markdown(("name", "type", "range", "default", "meaning"), rows)


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
        status = f"{error.http_status}{', retryable' if error.retryable else ''}"
        rows.append(("&nbsp;&nbsp;&nbsp;&nbsp;" * depth + name, f"`{error.code}`", status, docstring_of(error)))
    return markdown(("class", "code", "HTTP", "when, and what to do"), rows)


def job_states() -> str:
    meanings = attribute_docstrings(State)
    rows = [(f"`{state.name}`", f"`{state.value}`", required(meanings, state.name, State)) for state in State]
    return markdown(("state", "value", "meaning"), rows)


def exit_codes() -> str:
    from diffedit.cli.exit_codes import EXIT_CODES

    rows = [
        (str(row.code), row.meaning, ", ".join(f"`{error.__name__}`" for error in row.errors)) for row in EXIT_CODES
    ]
    return markdown(("exit code", "meaning", "errors"), rows)


def commands() -> str:
    group: Any = typer.main.get_command(cli.app)
    context = group.context_class(group, info_name="diffedit")
    return "\n\n".join(_command(command, above) for command, above in _all_commands(group, context))


def http_routes() -> str:
    """Return a section on each operation of the HTTP API, from its description in `docs/openapi.json`."""
    described = json.loads((Path(__file__).parent / "openapi.json").read_text())
    schemas = described["components"]["schemas"]
    sections = []
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            sections.append(operation_section(method.upper(), path, operation))
    return "\n\n".join([*sections, *(model_section(name, schemas[name], schemas) for name in HTTP_MODELS)])


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
        tables.append(markdown((f"`{package}`, from the top",), rows))
    return "\n\n".join(tables)


def public_names() -> str:
    import diffedit
    from diffedit import decoding, pictures, testing, uploads

    constants = constant_docstrings(diffedit, decoding, pictures, uploads)
    rows = []
    for module in (diffedit, testing):
        for name in sorted(module.__all__):
            value = getattr(module, name)
            # Only classes and functions have a docstring of their own.
            described = inspect.isclass(value) or inspect.isfunction(value)
            meaning = docstring_of(value) if described else required(constants, name, module)
            first = meaning.partition(". ")[0].rstrip(".")
            rows.append((f"`{module.__name__}.{name}`", f"{first}: `{value:,}`" if isinstance(value, int) else first))
    return markdown(("name", "what it is"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "parameters": parameters,
    "presets": presets,
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
    "http": http_routes,
}


def _settings_table(model: type[BaseModel], skipped: Iterable[str]) -> str:
    schema = model.model_json_schema(by_alias=False)
    rows = []
    for name, meaning in meanings_of(model):
        if name in skipped:
            continue
        field, facts = model.model_fields[name], schema["properties"][name]
        variables = "<br>or ".join(f"`{variable}`" for variable in _variables(field))
        kind = ", ".join(part for part in (type_of(facts, schema), range_of(facts)) if part)
        rows.append((variables, kind, default_of(name, field), meaning))
    return markdown(("variable", "type", "default", "meaning"), rows)


def _variables(field: FieldInfo) -> list[str]:
    alias = field.validation_alias or field.alias
    assert alias is not None
    return [alias] if isinstance(alias, str) else [str(choice) for choice in alias.choices]


def _tree(error: type[errors.DiffEditError], depth: int = 0) -> Iterator[tuple[int, type[errors.DiffEditError]]]:
    yield depth, error
    for child in error.__subclasses__():
        if child.__module__.startswith(errors.__name__):
            yield from _tree(child, depth + 1)


def _public_names() -> frozenset[str]:
    import diffedit

    return frozenset(diffedit.__all__)


def _all_commands(group: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each command below a group, and the context of the group that it is in."""
    for name in group.list_commands(context):
        command = group.commands[name]
        if hasattr(command, "commands"):
            yield from _all_commands(command, command.context_class(command, info_name=name, parent=context))
        else:
            yield command, context


def _command(command: Any, parent: Any) -> str:
    """Return a section on one command. Typer brings its own copy of click, so that the types are left open."""
    context = command.context_class(command, info_name=command.name, parent=parent)
    usage = command.get_usage(context).removeprefix("Usage: ")
    rows = [
        _parameter(each, context) for each in command.get_params(context) if each.name != "help" and not each.hidden
    ]
    table = markdown(("argument or option", "default", "meaning"), rows) if rows else ""
    parts = [
        f"## {context.command_path}",
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
