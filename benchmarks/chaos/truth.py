"""What each job of a chaos run must have made: the same edits, computed without queue, store and other jobs.

    python -m benchmarks.chaos.truth < submissions.json > contents.json

A process of its own, because it needs torch. The bundled model gives the same masks and texts in every process of one
machine, and the same pixels but for a few that differ by one level.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from PIL import Image

from benchmarks.chaos.workload import Submission
from diffedit import EditResult
from diffedit.contract.request import Prompts

PROCESSES = 2

TOLERANCE = 2
"""By how many levels, of 256, a pixel of the same picture may differ. A changed one differs by 128."""

Contents = dict[str, str]
"""What a user sees of a result, as text: "image" and "mask" in hex, "caption", "prompts"."""


def differences(contents: Contents, truth: Contents) -> list[str]:
    """Return the parts that are not what they must be."""
    return [part for part, content in contents.items() if not _are_equal(part, content, truth[part])]


def _are_equal(part: str, content: str, truth: str) -> bool:
    if part != "image":
        return content == truth
    levels, true_levels = bytes.fromhex(content), bytes.fromhex(truth)
    return len(levels) == len(true_levels) and all(
        abs(level - true_level) <= TOLERANCE for level, true_level in zip(levels, true_levels, strict=True)
    )


def contents_of(result: EditResult) -> Contents:
    """Return the contents that a user sees, read now."""
    return _contents(result.image, result.mask, result.caption, result.prompts)


def true_contents(submissions: Sequence[Submission]) -> dict[str, Contents]:
    """Return what each submission must give, by idempotency key."""
    parts = [submissions[number::PROCESSES] for number in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        return {key: contents for part in pool.map(_in_process, parts) for key, contents in part.items()}


def _in_process(submissions: Sequence[Submission]) -> dict[str, Contents]:
    command = [sys.executable, "-m", "benchmarks.chaos.truth"]
    data = json.dumps([asdict(submission) for submission in submissions])
    done = subprocess.run(command, input=data, capture_output=True, text=True, check=True)
    contents: dict[str, Contents] = json.loads(done.stdout)
    return contents


def _contents(image: Image.Image, mask: Image.Image, caption: str, prompts: Prompts) -> Contents:
    pixels = {"image": image.tobytes().hex(), "mask": mask.tobytes().hex()}
    return {**pixels, "caption": caption, "prompts": prompts.model_dump_json()}


def _compute(submissions: Sequence[Submission]) -> dict[str, Contents]:
    """Return the contents by key. Imports torch."""
    from benchmarks.harness.baselines import edit_request, run_stages
    from diffedit.contract.stages import Artifact
    from diffedit.masks import read_mask
    from diffedit.pictures import read_picture
    from diffedit.submission import TEXTS
    from diffedit_worker.models.devices import limit_cpu_threads
    from diffedit_worker.models.loading import Models
    from diffedit_worker.models.profiles import load_profiles

    models = Models(load_profiles()["tiny"], device="cpu")
    limit_cpu_threads(models.profile, models.device)

    def compute(submission: Submission) -> Contents:
        texts = {name: text for name, text in submission.arguments.items() if name in TEXTS}
        params: Mapping[str, Any] = {key: value for key, value in submission.arguments.items() if key not in TEXTS}
        have: dict[Artifact, Any] = {Artifact.IMAGE: read_picture(submission.picture)}
        if mask := submission.mask:
            have[Artifact.MASK] = read_mask(mask)
        values = run_stages(models, edit_request(models.profile, params, **texts), have)
        caption, prompts = values[Artifact.CAPTION], values[Artifact.PROMPTS]
        return _contents(values[Artifact.RESULT].image, values[Artifact.MASK], caption, prompts)

    return {submission.idempotency_key: compute(submission) for submission in submissions}


if __name__ == "__main__":
    asked = [Submission(**fields) for fields in json.load(sys.stdin)]
    print(json.dumps(_compute(asked)))
