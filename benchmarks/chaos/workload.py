"""The edits that clients submit during a chaos run, drawn from a seed."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffedit_worker.models.profiles import SAMPLES

SCENES = (("00.png", "a dog", "pink"), ("01.png", "a cat", "green"), ("03.png", "a strawberry", "blue"))
TARGETS = ("some grapes", "a pineapple", "some cherries")


@dataclass(frozen=True)
class Submission:
    """One call of `Client.edit`, `at` seconds from the start. Two submissions with the same key are one job."""

    at: float
    idempotency_key: str
    picture: Path
    arguments: dict[str, Any]


def schedule_submissions(seed: int, jobs: int, seconds: float) -> list[Submission]:
    """Return the submissions of `jobs` jobs at random times within `seconds`.

    They are edits by prompts, by concepts and by a target alone, short and long. Some repeat the edit before them, and
    some jobs are submitted twice.
    """
    # Another string would be another schedule, and the documented runs could not be repeated.
    rng = random.Random(f"asks {seed}")
    submissions: list[Submission] = []
    for number in range(jobs):
        at, key = rng.uniform(0, seconds), f"{seed}-{number}"
        if submissions and rng.random() < 0.15:
            picture, arguments = submissions[-1].picture, submissions[-1].arguments
        else:
            picture, arguments = _random_edit(rng)
        submissions.append(Submission(at, key, picture, arguments))
        if rng.random() < 0.15:
            submissions.append(Submission(at + rng.uniform(0, 0.5), key, picture, arguments))
    return submissions


def _random_edit(rng: random.Random) -> tuple[Path, dict[str, Any]]:
    name, thing, colour = rng.choice(SCENES)
    source, target = (f"a photograph of {kind} on a {colour} table" for kind in (thing, rng.choice(TARGETS)))
    prompts = {"source_prompt": source, "target_prompt": target}
    concepts = {"source_concept": thing, "target_concept": target, "num_prompts": 2}
    texts = rng.choice((prompts, prompts, concepts, {"target_prompt": target}))
    params = {"num_inference_steps": rng.choice((4, 8, 60)), "num_maps_per_mask": 2, "seed": rng.randrange(10)}
    return SAMPLES / name, {**texts, **params}
