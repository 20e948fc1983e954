"""Values that are not finite: found where a model returns them, and blamed on this model.

A worker has them for a reason of its own: a number type that is too small for the model, damaged weights, a faulty
device. Later they would look like something else: NaN in a difference map gives an empty mask, NaN in the scores of a
language model an empty text.

A check waits for the device. So the denoising loops are not checked at each step but at their end: NaN and infinity
never become finite again in a difference map, a trajectory or a denoised picture. `generate` waits for the device after
each token anyway.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from diffedit.errors import NotFinite


def require_finite(values: Tensor, name: str, model: Any) -> Tensor:
    """Return the values that a model has computed.

    Raises:
        NotFinite: one of them is infinite or NaN. The error names the model.
    """
    if not torch.isfinite(values).all():
        raise not_finite(name, model)
    return values


class FiniteScores(LogitsProcessor):  # type: ignore[misc]
    """Raise NotFinite during `generate` if no token, or a meaningless one, would be the most likely.

    Scores of -inf are regular: they exclude a token. So only the largest score of each text has to be finite; it is not
    if a score is NaN or +inf, or if all are -inf.
    """

    def __init__(self, name: str, model: Any) -> None:
        self.name, self.model = name, model

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        require_finite(scores.amax(dim=-1), self.name, self.model)
        return scores


def not_finite(name: str, model: Any) -> NotFinite:
    """Return the error for a model of diffusers or transformers."""
    return NotFinite(name, str(model.device), str(model.dtype).removeprefix("torch."))
