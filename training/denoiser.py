"""The denoiser: a UNet and its text encoder, trained together on the latents of the VAE."""

import json
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from numpy.random import Generator, default_rng
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.captions import concept_names, concept_sentence, describe, phrases
from training.data import Pictures
from training.loop import fit
from training.scenes import Scene

CHANNELS = (64, 128)
TEXT_WIDTH = 96
BATCH = 32
STEPS = 8000
EMPTY, AVERAGED = 0.1, 0.15
"""Shares of the batch with an empty text, and with the mean of several sentences about one object.

Guidance needs the empty text. The stages use the mean of the prompter's sentences for a concept."""
SENTENCES = 6


def new_unet() -> UNet2DConditionModel:
    """Return the UNet with random weights.

    Only the level of 8 x 8 has cross-attention. At 16 x 16 as well, it would take half as much time again.
    """
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        # In spite of its name, this is the number of heads.
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_scheduler() -> DDIMScheduler:
    """Return the scheduler of Stable Diffusion 2, with its noise levels and v-prediction.

    The text matters most at high noise levels, where the noised picture does not show what it is. There, a wrong
    prediction of the picture is a small error in the noise, but a large one in the velocity.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type="v_prediction",
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return the text encoder with random weights."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def new_tokenizer(scenes: list[Scene]) -> CLIPTokenizer:
    """Return a CLIP tokenizer that is trained on descriptions of the scenes."""
    rng = default_rng(0)
    texts = [describe(scene, rng) for scene in scenes] + [concept_sentence(concept_names(rng)[1], rng) for _ in scenes]
    special = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    learnt = CLIPTokenizer(vocab=special, merges=[]).train_new_from_iterator(texts, vocab_size=1024)
    merges = [tuple(pair) for pair in json.loads(learnt.backend_tokenizer.to_str())["model"]["merges"]]
    # The merges are always the same, but the library numbers the letters differently in each process.
    letters = pre_tokenizers.ByteLevel.alphabet()
    tokens = {*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)}
    vocabulary = special | {token: number for number, token in enumerate(sorted(tokens), start=len(special))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges)
    tokenizer.model_max_length = 77
    return tokenizer


def train_denoiser(
    latents: Tensor, pictures: Pictures, directory: Path, seed: int
) -> tuple[UNet2DConditionModel, CLIPTextModel, CLIPTokenizer]:
    """Train UNet and text encoder to predict the velocity of noised latents from descriptions of their pictures.

    Args:
        latents: the scaled latents of all pictures, (N, 4, 16, 16).
    """
    torch.manual_seed(seed)
    tokenizer = new_tokenizer(pictures.scenes[:5000])
    unet, text_encoder = new_unet().to(memory_format=torch.channels_last), new_text_encoder(tokenizer)
    scheduler = new_scheduler()
    levels = scheduler.config["num_train_timesteps"]

    def loss(generator: torch.Generator) -> Tensor:
        numbers = pictures.choose(BATCH, generator)
        rng = default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        descriptions = [draw_texts(pictures.scenes[number], rng) for number in numbers]
        ids = tokenizer(
            [text for texts in descriptions for text in texts], padding="max_length", return_tensors="pt"
        ).input_ids
        hidden = text_encoder(ids)[0].split([len(texts) for texts in descriptions])
        text = torch.stack([sentences.mean(dim=0) for sentences in hidden])
        # Each batch covers the noise levels evenly, which gives a less noisy gradient than independent draws.
        t = ((torch.rand(1, generator=generator) + torch.arange(BATCH) / BATCH) % 1 * levels).long()
        z0 = latents[numbers]
        noise = torch.randn(z0.shape, generator=generator)
        xt = scheduler.add_noise(z0, noise, t).contiguous(memory_format=torch.channels_last)
        velocity = unet(xt, t, encoder_hidden_states=text, return_dict=False)[0].float()
        error: Tensor = (velocity - scheduler.get_velocity(z0, noise, t)).square()
        return error.mean()

    modules = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    fit("denoiser", modules, loss, directory=directory, seed=seed, steps=STEPS, lr=1.2e-3)
    return unet, text_encoder, tokenizer


def draw_texts(scene: Scene, rng: Generator) -> list[str]:
    """Return random texts about a scene. The UNet gets the mean of their embeddings."""
    draw = rng.random()
    if draw < EMPTY:
        return [""]
    if draw < EMPTY + AVERAGED:
        things = str(rng.choice(phrases(scene)))
        return [concept_sentence(things, rng) for _ in range(SENTENCES)]
    return [describe(scene, rng)]
