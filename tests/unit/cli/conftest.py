"""The command with a client of the memory doubles, in an empty working directory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Cli, png


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Cli], Cli]:
    """Let the command use the client of this `Cli`, in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def use_client(cli: Cli) -> Cli:
        monkeypatch.setattr("diffedit.cli.main.make_client", lambda: cli.client)
        return cli

    return use_client


@pytest.fixture
def cli(use: Callable[[Cli], Cli]) -> Cli:
    return use(Cli())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(png())
    return path
