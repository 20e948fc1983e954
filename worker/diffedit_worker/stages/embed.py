"""Stage embed: text embeddings by the CLIP text encoder of the diffusion model."""

from collections.abc import Mapping
from typing import Any

import torch

from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact
from diffedit.errors import ArtifactError, TextTooLong
from diffedit_worker.codecs import check_shapes, tensors_codec
from diffedit_worker.diffusion.diffedit import OnStep
from diffedit_worker.models.loading import Models
from diffedit_worker.models.text_encoding import encode_windows, split_into_windows
from diffedit_worker.stages.definition import Output, StageDefinition

BATCH = 64
MAX_TOKENS = 600
"""The most tokens of a text: as many as eight full windows hold."""
MAX_WINDOWS = 32
"""Windows of the text encoder in a stored embedding, at most. No text has as many; each takes memory in the UNet."""


@torch.no_grad()
def embed(
    *, models: Models, on_step: OnStep, prompts: Prompts, caption: str, negative_prompt: str | None
) -> dict[Artifact, Any]:
    """Return embeddings, each (1, 77 k, D), on the CPU in the models' dtype.

    The embeddings of several sentences are averaged. Without a negative prompt, the source prompts are the negative
    condition of the edit, as in the DiffEdit guide. "unconditional" is the embedding of the empty text.

    k is 1, unless a text is longer than 75 tokens (`models.text_encoding`). Embeddings that meet in one pass of the
    UNet need the same k. Source, target and negative have one k. Caption and unconditional have their own, because the
    inversion must depend on the picture and its caption only. A shorter text is padded with embeddings of the empty
    text, as compel does. The UNet attends to the padding as well, which changes the effect of the text a little, so k
    is as small as possible.

    Raises:
        TextTooLong: a text has more than MAX_TOKENS tokens.
        NotFinite: the text encoder returned values that are not finite.
    """
    named = {
        "source prompt": prompts.source,
        "target prompt": prompts.target,
        "caption": (caption,),
        "negative prompt": (negative_prompt or "",),
        "empty text": ("",),
    }
    encoded = _encode(models, on_step, _windows_of(models, named))
    negative = (negative_prompt,) if negative_prompt else prompts.source
    sentences: dict[Artifact, dict[str, tuple[str, ...]]] = {
        Artifact.EMBEDDINGS: {"source": prompts.source, "target": prompts.target, "negative": negative},
        Artifact.CAPTION_EMBEDDING: {"caption": (caption,), "unconditional": ("",)},
    }
    return {artifact: _means(encoded, group, models.dtype) for artifact, group in sentences.items()}


def _windows_of(models: Models, named: Mapping[str, tuple[str, ...]]) -> dict[str, list[list[int]]]:
    """Return the windows of each text, in the order of the texts."""
    tokenizer, _ = models.text_encoder
    windows: dict[str, list[list[int]]] = {}
    for name, texts in named.items():
        for text in texts:
            if text not in windows:
                windows[text] = split_into_windows(tokenizer, text)
                if (tokens := sum(map(len, windows[text]))) > MAX_TOKENS:
                    raise TextTooLong(name, tokens, MAX_TOKENS)
    return windows


def _encode(models: Models, on_step: OnStep, windows_of: Mapping[str, list[list[int]]]) -> dict[str, torch.Tensor]:
    """Return the embedding (77 k, D) of each text, from its k windows."""
    windows = [window for windows in windows_of.values() for window in windows]
    encoded: list[torch.Tensor] = []
    for start in range(0, len(windows), BATCH):
        encoded += encode_windows(*models.text_encoder, windows[start : start + BATCH])
        on_step(len(encoded), len(windows))
    rows = iter(encoded)
    return {text: torch.cat([next(rows) for _ in windows]) for text, windows in windows_of.items()}


def _means(
    encoded: Mapping[str, torch.Tensor], group: Mapping[str, tuple[str, ...]], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Return the mean (1, 77 k, D) of each name's sentences. k is that of the longest sentence of the group."""
    empty = encoded[""]
    longest = max(len(encoded[text]) for texts in group.values() for text in texts)

    def padded(text: str) -> torch.Tensor:
        return torch.cat([encoded[text], empty.repeat((longest - len(encoded[text])) // len(empty), 1)])

    # In float32, because the mean of 64 half-precision embeddings would lose bits. Each mean is a new tensor, because
    # safetensors does not save two tensors that share memory.
    return {
        name: torch.stack([padded(text) for text in texts]).float().mean(dim=0, keepdim=True).to(dtype)
        for name, texts in group.items()
    }


def check(embeddings: dict[str, torch.Tensor], *, models: Models) -> None:
    """Raise ArtifactError unless all embeddings have the text encoder's width and a number of its windows of tokens."""
    window, width = models.text_shape
    check_shapes(embeddings, (1, None, width))
    tokens = next(iter(embeddings.values())).shape[1]
    if window and not (tokens % window == 0 and 1 <= tokens // window <= MAX_WINDOWS):
        raise ArtifactError(f"its tensors have {tokens} tokens instead of 1 to {MAX_WINDOWS} times {window}")


DEFINITION = StageDefinition(
    embed,
    "diffusion",
    {
        # The mask does not depend on the negative prompt, but is computed again when it changes. A third output would
        # avoid that, and would cost every job one more object in the store.
        Artifact.EMBEDDINGS: Output(
            tensors_codec("source", "target", "negative"), params=("negative_prompt",), check=check
        ),
        Artifact.CAPTION_EMBEDDING: Output(tensors_codec("caption", "unconditional"), params=(), check=check),
    },
    # Version 1 cut each text after 75 tokens. The key cannot tell how long a text is without its tokens.
    version=2,
)
