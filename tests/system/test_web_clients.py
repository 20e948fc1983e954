"""Clients of the HTTP API in other languages: the example for Node, and one that TypeScript generates.

They need `nodejs` and `npm`; the second one needs the registry of npm.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE
from tests.support.services import client_of
from tests.support.waiting import until
from tests.support.web_server import served_process

ROOT = Path(__file__).parents[2]
TYPESCRIPT = Path(__file__).parent / "typescript"
COMPILE = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "esnext", "--lib", "es2022,dom"]


def run(folder: Path, *command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_for_node_edits_a_picture(tmp_path: Path) -> None:
    with LocalServices(tmp_path / "stack") as stack:
        stack.start_worker()
        client = client_of(stack)
        until(lambda: client.health().ok, "a ready worker")
        key, _ = client.add_api_key("u17")
        with served_process(stack.environment, tmp_path) as server:
            words = [str(PICTURE), PEAR["source_prompt"], PEAR["target_prompt"], "edited.png"]
            environment = {"DIFFEDIT_SERVER": server.url, "DIFFEDIT_KEY": key}
            lines = run(tmp_path, "node", str(ROOT / "examples/http_api.mjs"), *words, **environment).splitlines()
            wrong = {**environment, "DIFFEDIT_KEY": "diffedit_wrong"}
            with pytest.raises(AssertionError, match="invalid_key"):
                run(tmp_path, "node", str(ROOT / "examples/http_api.mjs"), *words, **wrong)
    assert lines[-2:] == ["succeeded edit 100 %", "edited.png"]
    assert Image.open(tmp_path / "edited.png").size == Image.open(PICTURE).size


def test_a_generated_client_compiles_and_finds_mistakes(tmp_path: Path) -> None:
    for name in ("package.json", "client.ts"):
        shutil.copy(TYPESCRIPT / name, tmp_path)
    run(tmp_path, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts")
    run(tmp_path, "npx", "openapi-typescript", str(ROOT / "docs/openapi.json"), "--output", "api.d.ts")
    run(tmp_path, "npx", "tsc", *COMPILE, "--moduleResolution", "bundler", "client.ts")
