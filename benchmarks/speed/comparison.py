"""Our stages and diffusers' pipeline on one model and one picture."""

from pathlib import Path
from typing import Any

from benchmarks.harness.baselines import DiffusersBaseline, edit_request, run_stages
from diffedit.contract.stages import Artifact
from diffedit.pictures import Picture, read_picture
from diffedit_worker.local.commands import PICTURE, SOURCE, TARGETS
from diffedit_worker.models.devices import limit_cpu_threads
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles


class Comparison:
    """Both implementations on the same weights, with the picture and the prompts of `diffedit demo`."""

    def __init__(self, profile: str = "tiny", profiles: Path | None = None) -> None:
        self.models = Models(load_profiles(profiles)[profile], device="cpu")
        limit_cpu_threads(self.models.profile, self.models.device)
        self._picture = read_picture((SAMPLES / PICTURE).read_bytes())
        # The pipeline takes only pictures of the model's size. Our stages resize the picture themselves.
        self._resized = self._picture.image.convert("RGB").resize((self.models.size, self.models.size))
        self._baseline = DiffusersBaseline(self.models)

    def edit_with_diffusers(self, steps: int = 50) -> None:
        self._baseline.edit(self._resized, SOURCE, TARGETS[0], steps=steps)

    def mask_with_diffusers(self) -> None:
        self._baseline.mask(self._resized, SOURCE, TARGETS[0])

    def edit_with_stages(self, **params: Any) -> None:
        self._run_stages(Artifact.RESULT, params)

    def mask_with_stages(self, **params: Any) -> None:
        self._run_stages(Artifact.MASK, params)

    def _run_stages(self, goal: Artifact, params: dict[str, Any]) -> None:
        request = edit_request(
            self.models.profile, {"seed": 0, **params}, source_prompt=SOURCE, target_prompt=TARGETS[0]
        )
        # Otherwise every run but the first would skip the encoding of the picture.
        self.models.latent_cache.clear()
        picture: Picture = self._picture
        run_stages(self.models, request, {Artifact.IMAGE: picture}, goal)
