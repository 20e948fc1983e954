"""The edits that clients submit during a chaos run, drawn from a seed."""

import io
import random
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from diffedit_worker.models.profiles import SAMPLES

SCENES = (("00.png", "a dog", "pink"), ("01.png", "a cat", "green"), ("03.png", "a strawberry", "blue"))
TARGETS = ("some grapes", "a pineapple", "some cherries")
SHADES = 3
"""By how many levels, of 256, the pixels of a picture differ from its scene's."""

MIXED = 0.25
"""The part of a run in which workers of the last release work, too."""
GUIDE = {
    "scheduler": "ddim",
    "strength": 0.8,
    "guidance_scale": 7.5,
    "mask_encode_strength": 0.5,
    "mask_thresholding_ratio": "otsu",
    "mask_cleanup": True,
    "guidance_interval": 1.0,
    "feature_reuse": 1,
    "inversion_feature_reuse": 1,
}
"""Parameters that the last release knows as well. Given, because each release announces defaults of its own."""
CHEAPER = {
    **GUIDE,
    "scheduler": "dpmsolver++",
    "guidance_interval": 0.6,
    "feature_reuse": 3,
    "inversion_feature_reuse": 2,
}
"""Parameters of cheaper steps, for every second job after the part with the last release."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Submission:
    """One call of `Client.edit`, `at` seconds from the start. Two submissions with the same key are one job.

    Attributes:
        scene: the name of a sample picture.
        variant: a text that selects small changes of all its pixels. No two variants look the same, so that a result
            tells from every part that is not edited whose picture it was made from.
        arguments: the keyword arguments of `edit` besides the mask.
        mask_box: the rectangle of the user's own mask, if there is one.
        forked: a forked child of a process with a used client makes the call.
        webhook: where the events of the job are sent, if they are.
    """

    at: float
    idempotency_key: str
    scene: str
    variant: str
    arguments: dict[str, Any]
    mask_box: Box | None
    forked: bool
    webhook: str | None = None

    @property
    def picture(self) -> bytes:
        """The picture, as PNG."""
        scene = self._scene
        rng = random.Random(self.variant)
        shades = bytes(rng.randrange(2 * SHADES + 1) for _ in range(scene.width * scene.height * 3))
        levels = zip(scene.tobytes(), shades, strict=True)
        varied = bytes(min(255, max(0, level + shade - SHADES)) for level, shade in levels)
        return _png(Image.frombytes("RGB", scene.size, varied))

    @property
    def mask(self) -> bytes | None:
        """The user's own mask, as PNG."""
        if not self.mask_box:
            return None
        mask = Image.new("L", self._scene.size)
        left, top, right, bottom = self.mask_box
        mask.paste(255, (left, top, right, bottom))
        return _png(mask)

    @property
    def _scene(self) -> Image.Image:
        with Image.open(SAMPLES / self.scene) as scene:
            return scene.convert("RGB")

    @property
    def options(self) -> dict[str, Any]:
        """All keyword arguments of `Client.edit`."""
        mask = {"mask": self.mask} if self.mask_box else {}
        webhook = {"webhook": self.webhook} if self.webhook else {}
        return {**self.arguments, **mask, **webhook, "idempotency_key": self.idempotency_key}


@dataclass(frozen=True)
class _Edit:
    scene: str
    variant: str
    arguments: dict[str, Any]
    mask_box: Box | None


def schedule_submissions(seed: int, jobs: int, seconds: float, webhook: str | None = None) -> list[Submission]:
    """Return the submissions of `jobs` jobs at random times within `seconds`.

    They are edits by prompts, by concepts and by a target alone, short and long, some with a mask, some with cheaper
    steps. Some repeat the edit before them, some edit the same picture in another way, some jobs are submitted twice,
    and one in five is submitted by a forked process. After the part with the last release, whose workers send no
    events, three jobs in four have the webhook.
    """
    # Another string would be another schedule, and the documented runs could not be repeated.
    rng = random.Random(f"asks {seed}")
    submissions: list[Submission] = []
    edit = _random_edit(rng, "first")
    for number in range(jobs):
        at, key, chance = rng.uniform(0, seconds), f"{seed}-{number}", rng.random()
        if chance > 0.15:
            edit = _random_edit(rng, key, like=edit if chance < 0.35 else None)
        forked = rng.random() < 0.2
        is_late = at >= seconds * MIXED
        steps = CHEAPER if is_late and number % 2 else GUIDE
        asked = replace(edit, arguments={**edit.arguments, **steps})
        told = webhook if is_late and number % 4 else None
        submissions.append(Submission(at, key, **vars(asked), forked=forked, webhook=told))
        if not forked and rng.random() < 0.15:
            submissions.append(replace(submissions[-1], at=at + rng.uniform(0, 0.5)))
    return submissions


def _random_edit(rng: random.Random, variant: str, like: _Edit | None = None) -> _Edit:
    """Return an edit of a new picture, or of the picture of the edit `like`."""
    scene, thing, colour = rng.choice(SCENES)
    if like:
        variant = like.variant
        scene, thing, colour = next(each for each in SCENES if each[0] == like.scene)
    source, target = (f"a photograph of {kind} on a {colour} table" for kind in (thing, rng.choice(TARGETS)))
    prompts = {"source_prompt": source, "target_prompt": target}
    # Sentences, so that the language model has work as well.
    concepts = {
        "source_concept": thing,
        "target_concept": target,
        "concept_prompts": "sentences",
        "num_prompts": 2,
    }
    texts = rng.choice((prompts, prompts, concepts, {"target_prompt": target}))
    params = {"num_inference_steps": rng.choice((4, 8, 8, 60)), "num_maps_per_mask": 2, "seed": rng.randrange(10)}
    left, top = rng.randrange(8, 28), rng.randrange(8, 28)
    box = (left, top, left + rng.randrange(12, 28), top + rng.randrange(12, 28)) if rng.random() < 0.2 else None
    return _Edit(scene, variant, {**texts, **params}, box)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
