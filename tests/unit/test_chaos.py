"""The parts of `make chaos` that could be wrong without anybody noticing: its schedules, its damage, its comparison."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops

from benchmarks.chaos.artifact_faults import changed
from benchmarks.chaos.faults import KINDS, OLD_KINDS, schedule_faults
from benchmarks.chaos.forks import CHILDREN, schedule_forks
from benchmarks.chaos.truth import TOLERANCE, differences
from benchmarks.chaos.webhooks import Webhooks
from benchmarks.chaos.workload import MIXED, Submission, schedule_submissions
from benchmarks.harness.webhook_receiver import receiving
from diffedit.contract.request import EditParams, Prompts
from diffedit.contract.stages import Artifact
from diffedit.pictures import Picture
from diffedit.submission import TEXTS
from diffedit.testing import memory_client, succeed
from diffedit.webhooks.signing import new_secret, signed_headers
from diffedit_worker.local.process_group import ProcessGroup
from diffedit_worker.models.profiles import load_profiles
from diffedit_worker.pipeline import CODECS
from tests.support.factories import TEXTS as TWO_PROMPTS
from tests.support.images import plain

VALUES: dict[Artifact, Any] = {
    Artifact.CAPTION: "a pear",
    Artifact.PROMPTS: Prompts(source=("a pear",), target=("a ball",)),
    Artifact.CAPTION_EMBEDDING: {name: torch.ones(1, 1, 1) for name in ("caption", "unconditional")},
    Artifact.TRAJECTORY: {"latents": torch.ones(1, 1, 1, 1, 1)},
    Artifact.MASK: Image.new("L", (32, 32), 255),
    Artifact.RESULT: Picture(plain(), None, "png", {"diffedit": "{}"}),
}


@pytest.mark.parametrize("artifact", VALUES)
def test_a_changed_artifact_is_valid_in_form_and_has_another_content(artifact: Artifact) -> None:
    codec = CODECS[artifact]
    data = codec.encode(VALUES[artifact])
    other = codec.decode(changed(f"key.{codec.extension}", data))
    assert codec.encode(other) != codec.encode(codec.decode(data))


def test_a_changed_result_differs_from_the_true_one_by_more_than_float_noise() -> None:
    codec = CODECS[Artifact.RESULT]
    other = codec.decode(changed("key.png", codec.encode(VALUES[Artifact.RESULT]))).image
    true, seen = ({"image": image.tobytes().hex()} for image in (plain(), other))
    assert differences(seen, true) == ["image"]


def test_float_noise_is_no_difference_and_another_size_is_one() -> None:
    true = {"image": bytes([100, 100]).hex(), "caption": "a pear"}
    assert differences({**true, "image": bytes([100, 100 + TOLERANCE]).hex()}, true) == []
    assert differences({**true, "image": bytes([100, 101 + TOLERANCE]).hex()}, true) == ["image"]
    assert differences({**true, "image": bytes([100]).hex()}, true) == ["image"]
    assert differences({**true, "caption": "a ball"}, true) == ["caption"]


def test_while_the_last_release_works_only_faults_are_injected_that_it_survives() -> None:
    faults = schedule_faults(1, 100, sick=10, seconds=400, mixed=100)
    assert faults == schedule_faults(1, 100, sick=10, seconds=400, mixed=100)
    assert {fault.kind for fault in faults if fault.at < 100} == OLD_KINDS.keys()
    assert {fault.kind for fault in faults if fault.at >= 100} == KINDS.keys()


def test_every_forked_submission_is_made_by_one_fork_after_it_is_due() -> None:
    submissions = schedule_submissions(1, 100, seconds=100)
    forks = schedule_forks(submissions)
    made = [submission for fork in forks for submission in fork.submissions]
    assert sorted(each.idempotency_key for each in made) == sorted(
        each.idempotency_key for each in submissions if each.forked
    )
    assert all(submission.at <= fork.at for fork in forks for submission in fork.submissions)
    assert max(len(fork.submissions) for fork in forks) == CHILDREN


def test_two_variants_of_a_scene_differ_in_every_part_of_the_picture() -> None:
    """So that a result shows outside of its mask whose picture it was made from."""
    submissions = [each for each in schedule_submissions(1, 30, seconds=30) if each.scene == "00.png"]
    one, other = list({each.variant: each for each in submissions}.values())[:2]
    pictures = [Image.open(BytesIO(each.picture)) for each in (one, other)]
    difference = ImageChops.difference(*pictures)
    boxes = [(left, top, left + 8, top + 8) for left in range(0, 64, 8) for top in range(0, 64, 8)]
    assert all(difference.crop(box).getbbox() for box in boxes)


@pytest.mark.parametrize("announced", [{}, load_profiles()["tiny"].params], ids=["last release", "this one"])
def test_what_a_submission_asks_for_depends_on_no_defaults_that_a_release_announces(announced: dict[str, Any]) -> None:
    submissions = schedule_submissions(1, 100, seconds=100)
    resolved = [_params(submission, announced) for submission in submissions]
    assert resolved == [_params(submission, load_profiles()["tiny"].params) for submission in submissions]
    # Two submissions of one job may be half a second apart.
    reuses = [(params.feature_reuse, each.at) for params, each in zip(resolved, submissions, strict=True)]
    assert {reuse for reuse, at in reuses if at < 100 * MIXED} == {1}
    assert {reuse for reuse, at in reuses if at >= 100 * MIXED + 0.5} == {1, 3}


def _params(submission: Submission, announced: dict[str, Any]) -> EditParams:
    given = {name: value for name, value in submission.arguments.items() if name not in TEXTS}
    # Only the way of two concepts has a use for this one, and then the submission says it.
    unused = {} if "concept_prompts" in given else {"concept_prompts": "sentences"}
    return EditParams.resolve("tiny", announced, {**unused, **given})


def test_events_that_did_not_arrive_or_must_not_have_arrived_are_noticed(tmp_path: Path) -> None:
    client = memory_client()
    with receiving() as receiver:
        hooks = Webhooks(receiver, ProcessGroup(tmp_path), {})
        succeeded, cancelled, missing, queued = (
            client.edit(plain(), **TWO_PROMPTS, seed=seed, webhook=hooks.url) for seed in range(4)
        )
        succeed(succeeded)
        cancelled.cancel()
        missing.cancel()
        jobs = {job.id: job.status() for job in (succeeded, cancelled, missing, queued)}
        true = [f"{succeeded.id}.started", f"{succeeded.id}.succeeded", f"{cancelled.id}.cancelled"]
        for event in [*true, true[1]]:
            hooks._taken.append(signed(event, hooks._secret))
        outcome = hooks.outcome(jobs)
        assert (outcome.taken, outcome.repeated, outcome.ok) == (4, 1, False)
        assert (outcome.undelivered, outcome.false) == ([missing.id], [])
        hooks._taken += [
            signed(f"{missing.id}.cancelled", new_secret()),
            signed(f"{'0' * 32}.succeeded", hooks._secret),
            signed(f"{missing.id}.succeeded", hooks._secret),
            (signed(f"{missing.id}.cancelled", hooks._secret)[0], b'{"type": "edit.cancelled"}'),
        ]
        outcome = hooks.outcome(jobs)
        assert (len(outcome.false), outcome.undelivered) == (4, [missing.id])
        hooks._taken = [signed(event, hooks._secret) for event in (*true, f"{missing.id}.cancelled")]
        assert hooks.outcome(jobs).ok


def signed(event: str, secret: str) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of an event, as its sender makes them."""
    job_id, _, name = event.partition(".")
    body = json.dumps({"type": f"edit.{name}", "data": {"id": job_id}}).encode()
    return signed_headers(event, 1, body, [secret]), body


def test_the_jobs_of_workers_that_send_no_events_have_no_webhook() -> None:
    submissions = schedule_submissions(1, 100, 100, webhook="http://127.0.0.1/")
    assert all(each.at >= 100 * MIXED for each in submissions if each.webhook)
    assert 40 < sum(each.webhook is not None for each in submissions) < 80
    assert any(each.webhook and each.forked for each in submissions)
    hooks = {(each.idempotency_key, each.webhook) for each in submissions}
    assert len(hooks) == len({key for key, _ in hooks})
