"""Hooks of MkDocs: they add the repository's own pages and fill in the tables that come from the code.

A page asks for a table with a line `<!-- generated: NAME -->`; `reference_tables.TABLES` holds one function a name.
"""

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# The code that is documented is the code beside this file, installed or not.
sys.path[:0] = [str(ROOT / "api_client"), str(ROOT / "worker")]

from reference_tables import TABLES  # noqa: E402

REPOSITORY_PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/RESULTS.md": "benchmark-results.md",
    "benchmarks/FAULTS.md": "faults.md",
}
"""Pages that live elsewhere in the repository, and the name of each on the site."""

LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s:]+)(?=[)#])")
MARKER = re.compile(r"^<!-- generated: (?P<name>[a-z-]+) -->$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in REPOSITORY_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    sources = {name: source for source, name in REPOSITORY_PAGES.items()}
    uri = page.file.src_uri
    place = sources.get(uri, f"docs/{uri}")
    markdown = LINK.sub(lambda link: _link_on_the_site(link["path"], place, uri), markdown)
    return MARKER.sub(lambda marker: _table(marker["name"], uri), markdown)


def _link_on_the_site(path: str, source: str, page: str) -> str:
    """Return a relative link of the repository file `source` as a link of the site's page."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    target = REPOSITORY_PAGES.get(target, target.removeprefix("docs/"))
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


def _table(name: str, page: str) -> str:
    if name not in TABLES:
        raise PluginError(f"{page}: no table is called {name!r}; there are {', '.join(sorted(TABLES))}")
    try:
        return TABLES[name]()
    except LookupError as error:
        raise PluginError(f"{page}: {error}") from error
