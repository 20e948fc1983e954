"""Text generation, for the stages caption and prompts."""

import unicodedata
from typing import Any

import torch
from transformers import StoppingCriteria

from diffedit.contract.validation import MAX_TEXT_CHARS
from diffedit_worker.diffusion.diffedit import OnStep


class StepPerToken(StoppingCriteria):  # type: ignore[misc]
    """Call `on_step` after each token of `generate`. Only an exception that `on_step` raises stops the generation."""

    def __init__(self, on_step: OnStep, total: int) -> None:
        self.on_step, self.done, self.total = on_step, 0, total

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self.done += 1
        self.on_step(min(self.done, self.total), self.total)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def tidy(text: str) -> str:
    """Return a generated text in the form of the contract: one line, single spaces, no control characters, limited."""
    text = " ".join(text.split())
    return "".join(char for char in text if unicodedata.category(char) != "Cc")[:MAX_TEXT_CHARS].strip()
