"""What the documentation names exists: files, modules, functions, variables, commands, options and make targets.

`mkdocs build` checks links between the pages of the site. These tests check the rest.
"""

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import diffedit
from diffedit import cli, testing
from diffedit_worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
ROOT_PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*ROOT_PAGES, *sorted((ROOT / "docs").rglob("*.md"))]
CREATED = ("submissions/", "out/", "site/", "dist/", "htmlcov/", "artifacts/", "inputs/", "uploads/", "ab/")
"""What commands create, and folders of the bucket."""
EXAMPLES = {"worker/diffedit_worker/stages/upscale.py", "worker/diffedit_worker/stages/NAME.py"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code_spans(page: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", text)


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yield the words of each line that calls `diffedit`, in a block or in a code span, without its comment."""
    lines = [*page.read_text().splitlines(), *code_spans(page)]
    for line in lines:
        called = re.search(r"(?:^|[$(|]) *(?:export \$\()?diffedit ([a-z].*)$", line.partition(" #")[0])
        if called:
            yield called[1].strip().rstrip(")").split()


@each_page
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    paths = {
        span for span in code_spans(page) if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", span) and "/" in span
    } - EXAMPLES
    missing = {path for path in paths if not path.startswith(CREATED) and not (ROOT / path).exists()}
    assert missing == set()


@each_page
def test_every_module_and_function_that_a_page_names_exists(page: Path) -> None:
    dotted = re.compile(r"(diffedit|diffedit_worker)(\.(?!PROFILE)\w+)+(\(\))?")
    for name in filter(dotted.fullmatch, code_spans(page)):
        resolve(name.removesuffix("()"))


def resolve(name: str) -> Any:
    module, attributes = name, []
    while True:
        try:
            value: Any = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, attribute = module.rpartition(".")
            assert module, f"there is no module of {name}"
            attributes.insert(0, attribute)
    for attribute in attributes:
        value = getattr(value, attribute)
    return value


def test_every_step_of_the_walk_names_what_its_file_defines() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    steps = re.findall(r"`(?:api_client|worker)/([\w/]+)\.py`(?:: | \()`([A-Za-z_.]+)`", text)
    assert len(steps) > 12
    for path, name in steps:
        module = path.replace("/", ".")
        resolve(f"{module}.{name}")
        assert resolve(f"{module}.{name.partition('.')[0]}").__module__ == module


@each_page
def test_every_environment_variable_that_a_page_names_is_a_setting(page: Path) -> None:
    known = {str(field.validation_alias) for field in WorkerSettings.model_fields.values()}
    known |= {
        str(choice)
        for field in WorkerSettings.model_fields.values()
        for choice in getattr(field.validation_alias, "choices", ())
    }
    assert set(re.findall(r"\bDIFFEDIT_[A-Z0-9_]+\b", page.read_text())) <= known


@each_page
def test_every_command_and_option_that_a_page_shows_exists(page: Path) -> None:
    commands: Any = typer.main.get_command(cli.app).commands
    for name, *words in command_lines(page):
        assert name in commands, f"diffedit {name}"
        command = commands[name]
        if hasattr(command, "commands"):
            assert words and words[0] in command.commands, f"diffedit {name} {words[:1]}"
            command = command.commands[words.pop(0)]
        options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        own = words[: words.index("--")] if "--" in words else words
        used = {match[0] for word in own if (match := re.match(r"--[a-z][a-z-]*", word))}
        assert used <= options | {"--help"}, f"diffedit {name}"


@each_page
def test_every_make_target_and_module_that_a_page_runs_exists(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"(?:^ {4}|`|\$ )make ([a-z][a-z-]*)", text, flags=re.MULTILINE)) <= targets
    for module in set(re.findall(r"python -m ((?:benchmarks|training)[\w.]*)", text)):
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("page", [*ROOT_PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_link_of_a_page_outside_the_site_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(("module", "page"), [(diffedit, "client.md"), (testing, "testing.md")])
def test_the_reference_has_every_public_name(module: Any, page: str) -> None:
    text = (ROOT / "docs/reference" / page).read_text()
    described = re.findall(rf"^::: {re.escape(module.__name__)}\.(\w+)$", text, flags=re.MULTILINE)
    assert set(described) == {name for name in module.__all__ if not name.startswith("_")}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
