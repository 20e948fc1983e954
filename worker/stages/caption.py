"""A text that describes the picture as it is, from BLIP."""

import unicodedata
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from api_client.contract import Slot
from api_client.pictures import Picture
from worker.diffedit import OnStep
from worker.models import Models

PREFIX = "a photograph of"
MAX_NEW_TOKENS = 50
MAX_CHARS = 1000


class StepPerToken(StoppingCriteria):  # type: ignore[misc]
    """Never stops `generate`, but calls `on_step` after each token; what that raises does stop it."""

    def __init__(self, on_step: OnStep, total: int) -> None:
        self.on_step, self.done, self.total = on_step, 0, total

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self.done += 1
        self.on_step(min(self.done, self.total), self.total)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def tidy(text: str) -> str:
    """A model's words as the contract wants texts: on one line, single spaces, no control characters, bounded."""
    text = " ".join(text.split())
    return "".join(char for char in text if unicodedata.category(char) != "Cc")[:MAX_CHARS].strip()


@torch.no_grad()
def caption(*, models: Models, on_step: OnStep, image: Picture) -> dict[Slot, Any]:
    """What is in the picture, begun with "a photograph of" as in the DiffEdit guide."""
    processor, model = models.captioner
    inputs = processor(images=image.image, text=PREFIX, return_tensors="pt").to(models.device, models.dtype)
    tokens = model.generate(
        **inputs,
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        stopping_criteria=StoppingCriteriaList([StepPerToken(on_step, MAX_NEW_TOKENS)]),
    )
    text = tidy(processor.batch_decode(tokens, skip_special_tokens=True)[0])
    on_step(MAX_NEW_TOKENS, MAX_NEW_TOKENS)
    return {Slot.CAPTION: text or PREFIX}
