"""The client stays thin, and a worker starts without torch."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "numpy")


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("diffedit, diffedit.cli, diffedit.testing", (*HEAVY, "diffedit_worker", "celery", "boto3")),
        ("diffedit_worker.local.commands", (*HEAVY, "celery")),
        ("diffedit_worker.app, diffedit_worker.worker_command", HEAVY),
    ],
)
def test_importing_leaves_the_heavy_unimported(modules: str, unwanted: tuple[str, ...]) -> None:
    code = f"import {modules}, sys; print(*[name for name in {unwanted!r} if name in sys.modules])"
    assert printed(code) == []


def test_the_application_of_a_worker_is_made_without_the_heavy() -> None:
    assert (
        printed(f"""
import sys
from diffedit_worker.app import app
assert len(app.tasks) > 6
print(*[name for name in {HEAVY!r} if name in sys.modules])
""")
        == []
    )


def printed(code: str) -> list[str]:
    """Return the words that a new interpreter prints when it runs this code."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_public_names_are_all_there_and_no_others() -> None:
    import diffedit

    assert sorted(diffedit.__all__) == diffedit.__all__
    for name in diffedit.__all__:
        assert getattr(diffedit, name) is not None
