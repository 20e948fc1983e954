"""Stage embed: text embeddings by the CLIP text encoder of the diffusion model."""

from typing import Any

import torch

from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact
from diffedit.errors import ArtifactError
from diffedit_worker.codecs import check_shapes, tensors_codec
from diffedit_worker.diffusion.diffedit import OnStep
from diffedit_worker.models.loading import Models
from diffedit_worker.models.text_encoding import encode_texts
from diffedit_worker.stages.definition import Output, StageDefinition

BATCH = 64
MAX_WINDOWS = 32
"""Windows of the text encoder in a stored embedding, at most. No text has as many; each takes memory in the UNet."""


@torch.no_grad()
def embed(
    *, models: Models, on_step: OnStep, prompts: Prompts, caption: str, negative_prompt: str | None
) -> dict[Artifact, Any]:
    """Return embeddings, each (1, 77, D), on the CPU in the models' dtype.

    The embeddings of several sentences are averaged. Without a negative prompt, the source prompts are the negative
    condition of the edit, as in the DiffEdit guide. "unconditional" is the embedding of the empty text.
    """
    texts = [*prompts.source, *prompts.target, caption, negative_prompt or "", ""]
    embedding_of = _encode(models, on_step, list(dict.fromkeys(texts)))

    def mean(sentences: tuple[str, ...]) -> torch.Tensor:
        # In float32, because the mean of 64 half-precision embeddings would lose bits. Every call returns a new tensor,
        # because safetensors does not save two tensors that share memory.
        stacked = torch.stack([embedding_of[text] for text in sentences])
        return stacked.float().mean(dim=0, keepdim=True).to(models.dtype)

    negative = (negative_prompt,) if negative_prompt else prompts.source
    return {
        Artifact.EMBEDDINGS: {
            "source": mean(prompts.source),
            "target": mean(prompts.target),
            "negative": mean(negative),
        },
        Artifact.CAPTION_EMBEDDING: {"caption": mean((caption,)), "unconditional": mean(("",))},
    }


def _encode(models: Models, on_step: OnStep, texts: list[str]) -> dict[str, torch.Tensor]:
    """Return the embedding (77, D) of each text."""
    encoded: list[torch.Tensor] = []
    for start in range(0, len(texts), BATCH):
        encoded += encode_texts(*models.text_encoder, texts[start : start + BATCH])
        on_step(len(encoded), len(texts))
    return dict(zip(texts, encoded, strict=True))


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
)
