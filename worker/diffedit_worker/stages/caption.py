"""Stage caption: a text that describes the picture before the edit, by BLIP."""

from typing import Any

import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from diffedit.contract.stages import Artifact
from diffedit.contract.validation import Text
from diffedit.pictures import Picture
from diffedit_worker.codecs import json_codec
from diffedit_worker.diffusion.diffedit import OnStep
from diffedit_worker.models.finite import FiniteScores
from diffedit_worker.models.loading import Models
from diffedit_worker.stages.definition import Output, StageDefinition
from diffedit_worker.stages.text_generation import StepPerToken, tidy

PREFIX = "a photograph of"
MAX_NEW_TOKENS = 50


@torch.no_grad()
def caption(*, models: Models, on_step: OnStep, image: Picture) -> dict[Artifact, Any]:
    """Return a description of the picture that starts with "a photograph of", as in the DiffEdit guide.

    Raises:
        NotFinite: the captioner returned values that are not finite.
    """
    processor, model = models.captioner
    inputs = processor(images=image.image, text=PREFIX, return_tensors="pt").to(models.device, models.dtype)
    tokens = model.generate(
        **inputs,
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        logits_processor=LogitsProcessorList([FiniteScores("captioner", model)]),
        stopping_criteria=StoppingCriteriaList([StepPerToken(on_step, MAX_NEW_TOKENS)]),
    )
    text = tidy(processor.batch_decode(tokens, skip_special_tokens=True)[0])
    on_step(MAX_NEW_TOKENS, MAX_NEW_TOKENS)
    return {Artifact.CAPTION: text or PREFIX}


DEFINITION = StageDefinition(caption, "captioner", {Artifact.CAPTION: Output(json_codec(Text))})
