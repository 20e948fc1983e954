"""What `docker/models.Dockerfile` puts into its image: all that a worker without network needs."""

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.test_model_cache import LOAD_ALL, REPOS
from tests.support.hub import COMMIT, FakeHub

ROOT = Path(__file__).parents[2]
PROFILE = "[pinned]\nsize = 64\n" + "".join(
    f'{repo.partition("/")[2]} = {{id = "{repo}", revision = "{COMMIT}"}}\n' for repo in REPOS
)


def run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=True)


def test_a_worker_without_network_loads_what_was_downloaded(tmp_path: Path) -> None:
    profiles, home = tmp_path / "profiles.toml", tmp_path / "huggingface"
    profiles.write_text(PROFILE)
    with FakeHub(REPOS) as hub:
        downloading = {"DIFFEDIT_PROFILES": str(profiles), "HF_ENDPOINT": hub.endpoint}
        run(home, "docker/download_models.py", "pinned", **downloading)
        asked = len(hub.requests)
        assert "unet/diffusion_pytorch_model.safetensors" in hub.downloaded
        run(home, "-c", LOAD_ALL, COMMIT, HF_HUB_OFFLINE="1", HF_ENDPOINT=hub.endpoint)
        assert len(hub.requests) == asked
