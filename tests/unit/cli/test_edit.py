"""`diffedit edit`: every option reaches the request, and the result is saved."""

import json
import warnings
from pathlib import Path

import pytest
from typer.main import get_command

from diffedit import JobOptions, Lane
from diffedit.cli import app
from diffedit.contract.request import EditParams, EditRequest
from diffedit.provenance import with_manifest
from diffedit.submission import SET_BY_CLIENT
from tests.support.cli import RESULT, WORKER, Cli, png

TARGET = ("--target-prompt", "a pear")
CONCEPTS = ("--source-concept", "bowl", "--target-concept", "basket")
PARAMS = {
    "profile": ("tiny", "tiny"),
    "num_inference_steps": ("20", 20),
    "strength": ("0.5", 0.5),
    "guidance_scale": ("3", 3.0),
    "guidance_interval": ("0.6", 0.6),
    "inversion_guidance_scale": ("1.5", 1.5),
    "feature_reuse": ("3", 3),
    "inversion_feature_reuse": ("2", 2),
    "num_maps_per_mask": ("4", 4),
    "mask_encode_strength": ("0.7", 0.7),
    "mask_thresholding_ratio": ("otsu", "otsu"),
    "mask_cleanup": ("true", True),
    "concept_prompts": ("caption", "caption"),
    "num_prompts": ("8", 8),
    "seed": ("3", 3),
    "scheduler": ("dpmsolver++", "dpmsolver++"),
}
"""For each parameter a value as it is typed, and as it arrives."""


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (("--source-prompt", "a bowl", *TARGET), "source_prompt", "a bowl"),
        (("--source", "a bowl", *TARGET), "source_prompt", "a bowl"),
        (("--target-prompt", "a pear"), "target_prompt", "a pear"),
        (("--target", "a pear"), "target_prompt", "a pear"),
        (CONCEPTS, "source_concept", "bowl"),
        (CONCEPTS, "target_concept", "basket"),
        ((*TARGET, "--caption", "a bowl"), "caption", "a bowl"),
        ((*TARGET, "--negative-prompt", "a knife"), "negative_prompt", "a knife"),
        ((*TARGET, "--negative", "a knife"), "negative_prompt", "a knife"),
        (TARGET, "goal", "result"),
        ((*TARGET, "--mask-only"), "goal", "mask"),
        ((*TARGET, "--preview"), "goal", "mask"),
    ],
)
def test_a_text_option_reaches_the_request(cli: Cli, image: Path, words, field: str, value: str) -> None:
    cli("edit", image, *words, "--no-wait")
    assert getattr(cli.sent[0].request, field) == value


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("--num-inference-steps", "num_inference_steps"),
        ("--steps", "num_inference_steps"),
        ("--strength", "strength"),
        ("--guidance-scale", "guidance_scale"),
        ("--guidance", "guidance_scale"),
        ("--seed", "seed"),
        ("--profile", "profile"),
    ],
)
def test_a_parameter_option_reaches_the_request(cli: Cli, image: Path, option: str, field: str) -> None:
    typed, value = PARAMS[field]
    cli("edit", image, *TARGET, option, typed, "--no-wait")
    assert getattr(cli.sent[0].request.params, field) == value


def test_a_preset_reaches_the_request(cli: Cli, image: Path) -> None:
    cli("edit", image, *TARGET, "--preset", "guide", "--seed", "3", "--no-wait")
    assert cli.sent[0].request.params == EditParams(profile="tiny", seed=3)
    result = cli("edit", image, *TARGET, "--preset", "fast", "--no-wait", code=2)
    assert "unknown_preset: preset: profile tiny has no preset 'fast'; known: guide, default" in result.stderr


@pytest.mark.parametrize("name", EditParams.model_fields)
def test_param_reaches_every_parameter(cli: Cli, image: Path, name: str) -> None:
    typed, value = PARAMS[name]
    cli("edit", image, *TARGET, "--param", f"{name}={typed}", "--no-wait")
    arrived = getattr(cli.sent[0].request.params, name)
    assert (type(arrived), arrived) == (type(value), value)


def test_param_can_be_repeated(cli: Cli, image: Path) -> None:
    words = [word for name, (typed, _) in PARAMS.items() for word in ("--param", f"{name}={typed}")]
    cli("edit", image, *TARGET, *words, "--no-wait")
    assert cli.sent[0].request.params == EditParams(**{name: value for name, (_, value) in PARAMS.items()})


def test_the_mask_is_uploaded(cli: Cli, image: Path, tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(png("L", 255))
    cli("edit", image, *TARGET, "--mask", "mask.png", "--no-wait")
    assert cli.object_store.get(cli.sent[0].request.mask) == png("L", 255)


def test_the_job_options_reach_the_job(cli: Cli, image: Path) -> None:
    words = ["--lane", "batch", "--start-timeout", "5", "--deadline", "60"]
    cli("edit", image, *TARGET, *words, "--no-wait")
    assert cli.sent[0].options == JobOptions(lane=Lane.BATCH, start_timeout=5, deadline=60)


@pytest.mark.parametrize("option", ["--idempotency-key", "--key"])
def test_the_same_idempotency_key_returns_the_same_job(cli: Cli, image: Path, option: str) -> None:
    first, second = (cli("edit", image, *TARGET, option, "k", "--no-wait").stdout for _ in range(2))
    assert first == second
    assert len(cli.sent) == 1


def test_another_request_with_the_same_key_ends_with_the_id_of_the_first_job(cli: Cli, image: Path) -> None:
    cli("edit", image, *TARGET, "--key", "k", "--no-wait")
    for words in (["--target-prompt", "a lemon"], [*TARGET, "--mask-only"], [*TARGET, "--seed", "1"]):
        error = cli.error("edit", image, *words, "--key", "k", "--no-wait", code=2)
        assert (error["error"], error["job_id"]) == ("idempotency_conflict", cli.sent[0].id)
    assert len(cli.sent) == 1


def test_each_argument_of_an_edit_has_an_option_of_its_name() -> None:
    options = {parameter.name for parameter in get_command(app).commands["edit"].params}
    options_of_job = JobOptions.model_fields.keys() - {*SET_BY_CLIENT}
    arguments = EditRequest.model_fields.keys() - {"goal", "params"} | options_of_job
    assert arguments | {"idempotency_key"} <= options


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--param", "steps"], "NAME=VALUE"),
        (["--param", "=5"], "NAME=VALUE"),
        (["--param", "seed="], "NAME=VALUE"),
        (["--param", "seed=1", "--param", "seed=2"], "seed is given twice"),
        (["--steps", "5", "--param", "num_inference_steps=6"], "num_inference_steps is given twice"),
        (["--param", "image=x.png"], "image: this is not a parameter"),
        (["--param", "caption=x"], "caption: this is not a parameter"),
        (["--param", "deadline=5"], "deadline: this is not a parameter"),
        (["--param", "goal=mask"], "goal"),
        (["--param", "num_prompts=0"], "num_prompts"),
        (["--param", "num_prompts=many"], "num_prompts"),
        (["--param", "guidance_scale=NaN"], "guidance_scale"),
        (["--param", "num_inference_step=5"], "num_inference_step"),
        (["--strength", "7"], "strength"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(cli: Cli, image: Path, words: list[str], message: str) -> None:
    error = cli.error("edit", image, *TARGET, *words, "--no-wait", code=2)
    assert error["error"] == "invalid_request"
    assert message in error["message"]
    assert cli.sent == []


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["no/such.png", *TARGET], "bad_picture"),
        (["image.png"], "invalid_request"),
        (["image.png", *TARGET, "--mask", "no/such.png"], "bad_picture"),
    ],
)
def test_a_bad_request_is_refused(cli: Cli, image: Path, words: list[str], error: str) -> None:
    plain = cli("edit", *words, code=2)
    assert plain.stdout == ""
    assert plain.stderr.startswith(f"{error}: ")
    assert cli.error("edit", *words, code=2)["error"] == error
    assert cli.sent == []


def test_without_waiting_the_id_is_printed(cli: Cli, image: Path) -> None:
    assert cli("edit", image, *TARGET, "--no-wait").stdout.strip() == cli.sent[0].id
    assert cli.json("edit", image, *TARGET, "--no-wait") == {"id": cli.sent[1].id}


def test_the_result_is_saved_and_its_files_are_printed(cli: Cli, image: Path, tmp_path: Path) -> None:
    cli.on_send = cli.succeed
    result = cli("edit", image, *TARGET, "--out", "edited")
    files = [Path(line) for line in result.stdout.splitlines()]
    assert sorted(files) == [Path("edited") / name for name in ("grid.png", "manifest.json", "mask.png", "result.png")]
    manifest = json.loads((tmp_path / "edited/manifest.json").read_text())
    assert (tmp_path / "edited/result.png").read_bytes() == with_manifest(RESULT, manifest)
    assert f"job {cli.sent[0].id}" in result.stderr


def test_a_preview_saves_the_mask_only(cli: Cli, image: Path, tmp_path: Path) -> None:
    cli.on_send = cli.succeed
    cli("edit", image, *TARGET, "--mask-only")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mask.png"]


def test_json_gives_the_status_and_the_files(cli: Cli, image: Path, tmp_path: Path) -> None:
    cli.on_send = cli.succeed
    result = cli("edit", image, *TARGET, "--json")
    assert result.stderr == ""
    saved = json.loads(result.stdout)
    assert (saved["id"], saved["state"]) == (cli.sent[0].id, "succeeded")
    assert saved["files"].keys() == {"result", "mask", "grid", "manifest"}
    assert all((tmp_path / path).exists() for path in saved["files"].values())


def test_a_folder_that_cannot_be_written_is_named(cli: Cli, image: Path) -> None:
    cli.on_send = cli.succeed
    error = cli.error("edit", image, *TARGET, "--out", image, code=2)
    assert f"cannot write to {image}" in error["message"]


def test_a_warning_is_one_line_each_time_and_the_display_of_warnings_is_left_as_it_was(cli: Cli, image: Path) -> None:
    cli.worker_registry.unregister(WORKER)
    before = warnings.showwarning
    for _ in range(2):
        (line,) = cli("edit", image, *TARGET, "--no-wait").stderr.splitlines()
        assert line.startswith("warning: no live worker reads")
    assert warnings.showwarning is before
