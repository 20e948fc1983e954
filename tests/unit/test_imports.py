"""The client stays thin, and a worker starts without torch."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "numpy")


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("api_client, api_client.cli, api_client.testing", (*HEAVY, "worker", "celery", "boto3")),
        ("worker.demo", (*HEAVY, "celery")),
        ("worker.app", HEAVY),
    ],
)
def test_importing_leaves_the_heavy_unimported(modules: str, unwanted: tuple[str, ...]) -> None:
    code = f"import {modules}, sys; print(*[name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_public_names_are_all_there_and_no_others() -> None:
    import api_client

    assert sorted(api_client.__all__) == api_client.__all__
    for name in api_client.__all__:
        assert getattr(api_client, name) is not None
