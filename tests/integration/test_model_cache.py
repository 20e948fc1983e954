"""Models of the Hub: what is asked of it, and what a machine does that cannot reach it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file

from diffedit.contract.stages import ModelGroup
from diffedit.errors import ModelUnavailable
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import BUILT_IN, ModelSource, load_profiles
from tests.support.checkpoints import change_json
from tests.support.hub import COMMIT, FakeHub, fill_cache

TINY = BUILT_IN.parent / "tiny"
REPOS = {f"someone/{part}": TINY / part for part in ("captioner", "prompter", "diffusion")}

LOAD_ALL = """
import sys
from diffedit.contract.stages import ModelGroup
from tests.integration.test_model_cache import hub_models
for group in ModelGroup:
    hub_models(sys.argv[1]).load(group)
"""
CONSTANTS = huggingface_hub.constants


def hub_models(revision: str | None = COMMIT) -> Models:
    """Return the bundled models as repositories of the Hub."""
    parts = ("captioner", "prompter", "diffusion")
    sources = {part: ModelSource(id=f"someone/{part}", revision=revision) for part in parts}
    return Models(load_profiles()["tiny"].model_copy(update=sources), device="cpu")


def load_all(revision: str | None = COMMIT) -> None:
    models = hub_models(revision)
    for group in ModelGroup:
        models.load(group)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory for HF_HOME, which this process uses, too."""
    monkeypatch.setattr(CONSTANTS, "HF_HUB_CACHE", str(tmp_path / "huggingface/hub"))
    monkeypatch.setattr(CONSTANTS, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(CONSTANTS, "HF_HUB_DISABLE_XET", True)
    return tmp_path / "huggingface"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeHub]]:
    """A function that starts a Hub, which this process then asks."""
    with ExitStack() as hubs:

        def start(repositories: dict[str, Path], status: int | None = None) -> FakeHub:
            hub = hubs.enter_context(FakeHub(repositories, status))
            monkeypatch.setattr(CONSTANTS, "ENDPOINT", hub.endpoint)
            url = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(CONSTANTS, "HUGGINGFACE_CO_URL_TEMPLATE", url)
            return hub

        yield start


def fill(home: Path) -> None:
    for repo, directory in REPOS.items():
        fill_cache(home, repo, directory)


def test_a_new_process_with_all_models_in_its_cache_asks_nothing_of_the_hub(home: Path) -> None:
    """Without a network, each optional file that is not there would cost 23 seconds."""
    fill(home)
    with FakeHub(REPOS) as hub:
        environment = {"HF_HOME": str(home), "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", LOAD_ALL, COMMIT]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert hub.requests == []


def test_models_without_a_commit_are_loaded_from_the_cache_if_the_hub_does_not_answer(home, serve) -> None:
    fill(home)
    hub = serve({}, status=404)
    load_all(revision=None)
    assert hub.requests != []


def test_the_newest_commit_of_a_model_without_one_is_asked_for(home, serve) -> None:
    hub = serve(REPOS)
    load_all(revision=None)
    hub.requests.clear()
    load_all(revision=None)
    assert hub.downloaded == set(), "the commit is the same"
    assert any(path.startswith("/api/models/someone/captioner/revision/main") for path in hub.requests)


def with_ballast(directory: Path, copy: Path) -> Path:
    """Make a copy of a diffusion model with the other files that repositories hold, and return it."""
    shutil.copytree(directory, copy)
    for name in (
        "v2-1_768-ema-pruned.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/pytorch_model.bin",
        "safety_checker/model.safetensors",
    ):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"ballast")
    return copy


def test_only_the_files_that_are_needed_are_downloaded_and_only_once(home, serve, tmp_path: Path) -> None:
    hub = serve({**REPOS, "someone/diffusion": with_ballast(TINY / "diffusion", tmp_path / "repository")})
    load_all()
    files = [(directory, path) for directory in REPOS.values() for path in directory.rglob("*.*")]
    assert hub.downloaded == {path.relative_to(directory).as_posix() for directory, path in files}
    hub.requests.clear()
    load_all()
    assert hub.requests == []


def test_a_model_group_downloads_only_its_weights(home, serve) -> None:
    hub = serve(REPOS)
    hub_models().load(ModelGroup.DIFFUSION)
    weights = {path for path in hub.downloaded if path.endswith(".safetensors")}
    assert weights == {f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae")}


def test_a_file_that_is_missing_in_the_cache_is_downloaded(home, serve) -> None:
    fill(home)
    (home / "hub/models--someone--prompter/snapshots" / COMMIT / "tokenizer.json").unlink()
    hub = serve(REPOS)
    load_all()
    assert "tokenizer.json" in hub.downloaded
    assert not any("captioner" in path or "diffusion" in path for path in hub.requests)


def test_a_cache_that_lacks_an_optional_file_is_used_if_the_hub_does_not_answer(home, serve) -> None:
    serve(REPOS)
    snapshot_download("someone/prompter", revision=COMMIT, ignore_patterns=["generation_config.json"])
    hub = serve({}, status=404)
    _ = hub_models().prompter
    assert any(path.endswith("generation_config.json") for path in hub.requests)


def test_a_language_model_without_safetensors_is_downloaded_as_it_is(home, serve, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(TINY / "captioner", tmp_path / "captioner"))
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    hub = serve({"someone/captioner": copy})
    _ = hub_models().captioner
    assert "pytorch_model.bin" in hub.downloaded


def test_a_model_that_is_nowhere_is_named_with_the_command_that_downloads_it(home, serve) -> None:
    serve({}, status=404)
    with pytest.raises(ModelUnavailable) as caught:
        _ = hub_models().captioner
    assert f"someone/captioner@{COMMIT} cannot be loaded (the Hub: " in str(caught.value)
    assert f"hf download someone/captioner --revision {COMMIT} --include '*.json'" in str(caught.value)


def test_a_checkpoint_that_cannot_work_is_refused_before_its_weights_are_downloaded(home, serve, tmp_path) -> None:
    copy = Path(shutil.copytree(TINY / "diffusion", tmp_path / "inpainting"))
    change_json(copy / "unet/config.json", in_channels=9)
    hub = serve({"someone/diffusion": copy})
    with pytest.raises(ModelUnavailable, match="9 channels"):
        hub_models().load(ModelGroup.DIFFUSION)
    assert not any(path.endswith(".safetensors") for path in hub.downloaded)
