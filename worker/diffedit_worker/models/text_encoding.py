"""Texts as the diffusion model reads them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffedit_worker.models.finite import require_finite


@torch.no_grad()
def encode_texts(tokenizer: Any, encoder: Any, texts: Sequence[str]) -> Tensor:
    """Return the last hidden states (B, 77, D) of the CLIP text encoder, on the CPU, as diffusers' `encode_prompt`.

    Raises:
        NotFinite: one of them is infinite or NaN.
    """
    inputs = tokenizer(
        list(texts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).to(encoder.device)
    use_mask = getattr(encoder.config, "use_attention_mask", False)
    hidden: Tensor = encoder(inputs.input_ids, attention_mask=inputs.attention_mask if use_mask else None)[0]
    return require_finite(hidden.cpu(), "text encoder", encoder)
