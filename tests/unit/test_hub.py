"""Which files of a repository a model needs, and what the error for a model without files advises."""

import re
import shlex

import pytest
from huggingface_hub.utils import filter_repo_objects

from diffedit_worker.models.hub import FILES, Part, unavailable
from diffedit_worker.models.profiles import ModelSource, load_profiles

SD21 = {
    "README.md": 0.01,
    "feature_extractor/preprocessor_config.json": 0,
    "model_index.json": 0,
    "scheduler/scheduler_config.json": 0,
    "text_encoder/config.json": 0,
    "text_encoder/model.fp16.safetensors": 0.681,
    "text_encoder/model.safetensors": 1.361,
    "text_encoder/pytorch_model.bin": 1.361,
    "tokenizer/merges.txt": 0.001,
    "tokenizer/special_tokens_map.json": 0,
    "tokenizer/tokenizer_config.json": 0,
    "tokenizer/vocab.json": 0.001,
    "unet/config.json": 0,
    "unet/diffusion_pytorch_model.bin": 3.464,
    "unet/diffusion_pytorch_model.fp16.safetensors": 1.732,
    "unet/diffusion_pytorch_model.safetensors": 3.464,
    "v2-1_768-ema-pruned.ckpt": 5.214,
    "v2-1_768-ema-pruned.safetensors": 5.214,
    "v2-1_768-nonema-pruned.safetensors": 5.214,
    "vae/config.json": 0,
    "vae/diffusion_pytorch_model.fp16.safetensors": 0.167,
    "vae/diffusion_pytorch_model.safetensors": 0.335,
}
"""The files of Stable Diffusion 2.1's repository, with their sizes in GB."""
BLIP = {"config.json", "preprocessor_config.json", "pytorch_model.bin", "tf_model.h5", "tokenizer.json", "vocab.txt"}
T5 = {
    "config.json",
    "flax_model.msgpack",
    "generation_config.json",
    "model.safetensors",
    "pytorch_model.bin",
    "spiece.model",
    "tf_model.h5",
    "tokenizer.json",
}
SHARDS = {
    "unet/diffusion_pytorch_model.safetensors.index.json",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
}
FP16_SHARD = "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors"


def advised(part: Part, profile: str = "sd21") -> list[str]:
    """Return the patterns of the command that the error advises."""
    component = part if part in ("captioner", "prompter") else "diffusion"
    message = str(unavailable(getattr(load_profiles()[profile], component), part, "no network"))
    command = re.search(r"`(hf download [^`]*)`", message)
    assert command, message
    words = shlex.split(command[1])
    assert set(words[5::2]) == {"--include"}
    return words[6::2]


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae", "scheduler_config"])
def test_the_advice_for_any_part_of_stable_diffusion_downloads_all_parts_and_nothing_else(part: Part) -> None:
    chosen = list(filter_repo_objects(SD21, allow_patterns=advised(part)))
    assert round(sum(SD21[name] for name in chosen), 1) == 5.2
    assert {name for name in chosen if name.endswith((".safetensors", ".bin", ".ckpt"))} == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert {name for name in SD21 if name.startswith("tokenizer/")} <= set(chosen)


def test_the_advice_for_language_models_downloads_their_weights_once() -> None:
    assert set(filter_repo_objects(BLIP, allow_patterns=advised("captioner"))) == BLIP - {"tf_model.h5"}
    unneeded = {"flax_model.msgpack", "pytorch_model.bin", "tf_model.h5"}
    assert set(filter_repo_objects(T5, allow_patterns=advised("prompter"))) == T5 - unneeded


def test_weights_in_several_files_are_needed_and_their_variants_are_not() -> None:
    assert set(filter_repo_objects({*SHARDS, FP16_SHARD}, allow_patterns=list(FILES["unet"]))) == SHARDS


@pytest.mark.parametrize(
    ("revision", "pinned"), [("ab" * 20, True), (None, False), ("main", False), ("v7", False), ("ab" * 4, False)]
)
def test_only_a_whole_commit_hash_never_changes(revision: str | None, pinned: bool) -> None:
    assert ModelSource(id="someone/something", revision=revision).is_pinned is pinned


def test_every_built_in_model_of_the_hub_is_pinned() -> None:
    for profile in (load_profiles()["sd21"], load_profiles()["sd15"]):
        assert all(source.is_pinned for source in (profile.diffusion, profile.captioner, profile.prompter))
