"""Texts as the diffusion model reads them.

A CLIP text encoder has 77 positions, so 75 tokens of text are between the tokens of begin and end. A longer text is
split into windows. Each window gets its own begin, end and padding, is encoded by itself, and the hidden states are
joined along the axis of the tokens; the cross-attention of the UNet takes any number of tokens. The library compel and
the community pipeline `lpw_stable_diffusion` of diffusers do the same. Unlike both, a window ends at the end of a word.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffedit_worker.models.finite import require_finite

END_OF_WORD = "</w>"
"""The mark of a token with which a word ends, in the vocabulary of CLIP."""


def split_into_windows(tokenizer: Any, text: str) -> list[list[int]]:
    """Return the tokens of a text in windows of at most 75, without the tokens of begin and end.

    A text that fits into one window has one, and so has the empty text. No word is split that fits into one window.
    """
    size = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    windows = []
    while len(ids) > size:
        marks = [token.endswith(END_OF_WORD) for token in tokenizer.convert_ids_to_tokens(ids[:size])]
        end = len(marks) - marks[::-1].index(True) if any(marks) else size
        windows.append(ids[:end])
        ids = ids[end:]
    return [*windows, ids]


@torch.no_grad()
def encode_windows(tokenizer: Any, encoder: Any, windows: Sequence[Sequence[int]]) -> Tensor:
    """Return the last hidden states (B, 77, D) of the CLIP text encoder, on the CPU, as diffusers' `encode_prompt`.

    Raises:
        NotFinite: one of them is infinite or NaN.
    """
    inputs = tokenizer.pad(
        {"input_ids": [[tokenizer.bos_token_id, *window, tokenizer.eos_token_id] for window in windows]},
        padding="max_length",
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).to(encoder.device)
    use_mask = getattr(encoder.config, "use_attention_mask", False)
    hidden: Tensor = encoder(inputs.input_ids, attention_mask=inputs.attention_mask if use_mask else None)[0]
    return require_finite(hidden.cpu(), "text encoder", encoder)
