"""The client stays thin, and a worker starts without torch."""

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import diffedit.testing

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "numpy")


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        (
            "diffedit, diffedit.cli, diffedit.testing",
            (*HEAVY, "diffedit_worker", "diffedit_web", "fastapi", "standardwebhooks", "celery", "boto3"),
        ),
        ("diffedit_web, diffedit_web.server", (*HEAVY, "diffedit_worker")),
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


PUBLIC = """
    Admin Admission ApiKey Artifact ArtifactError AsyncAdmin AsyncClient AsyncEditResult AsyncJobHandle BadPicture
    BadRecord BrokerFull BrokerUnavailable CannotChange Changed Client Collected Deleted Delivery DeliveryState
    DiffEditError EditOptions EditParams EditRequest EditResult ErrorInfo Explanation Health IdempotencyConflict
    InvalidKey InvalidRequest JobCancelled JobError JobExpired JobFailed JobHandle JobLost JobNotFound JobOptions
    JobQuery JobStatus JobTimeout Lane MAX_ASPECT MAX_PICTURE_BYTES MAX_PIXELS MIN_SIDE NewApiKey NoWorkerWarning
    OwnerLimit OwnerLimits Page Pause PictureLike Prompts QueueFull QueueState RateLimited Restored ServiceError
    Settings Stage State StoreRefused StoreUnavailable StoredFile UnknownPreset UnreadableJobsWarning
    UploadNotFound UploadUrl Usage WaitingEvents WorkerInfo __version__
"""
PUBLIC_FOR_TESTS = """
    JobBackend MemoryObjectStore async_memory_client fail memory_backend memory_client succeed upload
"""


@pytest.mark.parametrize(("module", "names"), [(diffedit, PUBLIC), (diffedit.testing, PUBLIC_FOR_TESTS)])
def test_the_public_names_are_these_and_no_others(module: ModuleType, names: str) -> None:
    assert sorted(module.__all__) == names.split()
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_each_public_name_is_imported_from_where_type_checkers_find_it() -> None:
    (block,) = [node for node in ast.parse(Path(diffedit.__file__).read_text()).body if isinstance(node, ast.If)][:1]
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == diffedit._MODULE_OF
    assert seen.keys() == set(diffedit.__all__) - {"__version__"}
    assert set(diffedit.__all__) <= set(dir(diffedit))


def test_a_name_that_is_not_public_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'diffedit' has no attribute 'Clinet'"):
        _ = diffedit.Clinet
    with pytest.raises(ImportError):
        from diffedit import Clinet  # noqa: F401


def test_a_program_that_imports_the_package_alone_imports_nothing_else() -> None:
    assert printed("import sys, diffedit; print(*[name for name in sys.modules if name.startswith('diffedit.')])") == []


def test_the_version_is_that_of_the_distribution() -> None:
    assert diffedit.__version__ == version("diffedit-service")
