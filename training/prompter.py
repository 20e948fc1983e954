"""The prompter: a small T5 that writes sentences about a concept, given the instruction for Flan-T5."""

from pathlib import Path

import torch
from numpy.random import default_rng
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

from diffedit_worker.stages.prompts import INSTRUCTION
from training.captions import concept_names, concept_sentence
from training.loop import fit

BATCH = 64
STEPS = 1500


def new_tokenizer(texts: list[str]) -> T5Tokenizer:
    """Return a T5 tokenizer whose pieces are the words of `texts`."""
    words = sorted({f"▁{word}" for text in texts for word in text.split()})
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -8.0)]
    tokenizer = T5Tokenizer(vocab=[*special, *((word, -5.0) for word in words)], extra_ids=0)
    tokenizer.model_max_length = 128
    return tokenizer


def new_prompter(tokenizer: T5Tokenizer) -> T5ForConditionalGeneration:
    """Return the model with random weights."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    return T5ForConditionalGeneration(config)


def train_prompter(directory: Path, seed: int) -> tuple[T5ForConditionalGeneration, T5Tokenizer]:
    """Train the prompter to answer the instruction of the prompts stage with sentences that contain the concept."""
    torch.manual_seed(seed)
    rng = default_rng(0)
    examples = [concept_names(rng) for _ in range(2000)]
    tokenizer = new_tokenizer(
        [INSTRUCTION.format(concept=name) for name, _ in examples]
        + [concept_sentence(phrase, rng) for _, phrase in examples]
    )
    model = new_prompter(tokenizer)

    def loss(generator: torch.Generator) -> Tensor:
        rng = default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        pairs = [concept_names(rng) for _ in range(BATCH)]
        questions = tokenizer(
            [INSTRUCTION.format(concept=name) for name, _ in pairs], padding=True, return_tensors="pt"
        )
        answers = tokenizer([concept_sentence(phrase, rng) for _, phrase in pairs], padding=True, return_tensors="pt")
        labels = answers.input_ids.masked_fill(answers.attention_mask == 0, -100)
        value: Tensor = model(**questions, labels=labels).loss
        return value

    fit("prompter", model, loss, directory=directory, seed=seed, steps=STEPS, lr=3e-3)
    return model, tokenizer
