"""The captioner: a small BLIP that describes a picture."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)

from training.captions import caption
from training.data import Pictures
from training.loop import fit
from training.scenes import SIZE

BATCH = 32
STEPS = 1800
WIDTH = 96
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")


def new_processor(texts: list[str]) -> BlipProcessor:
    """Return BLIP's processor for pictures of SIZE x SIZE pixels, with the words of `texts` as vocabulary."""
    words = sorted({word for text in texts for word in text.split()})
    tokenizer = BertTokenizer(
        vocab={word: number for number, word in enumerate((*_SPECIAL, *words))},
        bos_token="[DEC]",  # noqa: S106  # a word of the vocabulary, not a password
    )
    tokenizer.model_max_length = 64
    return BlipProcessor(BlipImageProcessorPil(size={"height": SIZE, "width": SIZE}), tokenizer)


def new_captioner(tokenizer: BertTokenizer) -> BlipForConditionalGeneration:
    """Return the model with random weights."""
    shared = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "projection_dim": WIDTH, "num_attention_heads": 4}
    config = BlipConfig(
        text_config={
            **shared,
            "vocab_size": len(tokenizer),
            "encoder_hidden_size": WIDTH,
            "num_hidden_layers": 2,
            "max_position_embeddings": 64,
            "is_decoder": True,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "label_smoothing": 0.0,
        },
        vision_config={**shared, "num_hidden_layers": 3, "image_size": SIZE, "patch_size": 8},
        projection_dim=WIDTH,
        image_text_hidden_size=WIDTH,
    )
    return BlipForConditionalGeneration(config)


def train_captioner(
    pictures: Pictures, directory: Path, seed: int
) -> tuple[BlipForConditionalGeneration, BlipProcessor]:
    """Train the captioner to give the canonical caption of each picture."""
    torch.manual_seed(seed)
    captions = [caption(scene) for scene in pictures.scenes]
    processor = new_processor(captions)
    tokenizer, images = processor.tokenizer, processor.image_processor
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (images.image_mean, images.image_std))
    model = new_captioner(tokenizer)

    def loss(generator: torch.Generator) -> Tensor:
        numbers = pictures.choose(BATCH, generator)
        pixels = ((pictures.images(numbers) + 1) / 2 - mean) / std
        tokens = tokenizer([captions[number] for number in numbers], padding=True, return_tensors="pt")
        # BLIP starts with its own beginning-of-text token instead of BERT's [CLS].
        tokens.input_ids[:, 0] = tokenizer.bos_token_id
        labels = tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100)
        value: Tensor = model(pixel_values=pixels, **tokens, labels=labels).loss
        return value

    fit("captioner", model, loss, directory=directory, seed=seed, steps=STEPS, lr=2e-3)
    return model, processor
