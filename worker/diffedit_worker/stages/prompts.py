"""Stage prompts: sentences for the picture before and after the edit, from the caption or by Flan-T5."""

from typing import Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact
from diffedit.contract.validation import Text, explain
from diffedit.errors import ArtifactError, TextTooLong
from diffedit_worker.codecs import json_codec
from diffedit_worker.diffusion.diffedit import OnStep
from diffedit_worker.models.finite import FiniteScores
from diffedit_worker.models.loading import Models
from diffedit_worker.stages.concepts import caption_prompts
from diffedit_worker.stages.definition import Output, StageDefinition
from diffedit_worker.stages.text_generation import StepPerToken, tidy

INSTRUCTION = (
    "Provide a caption for images containing a {concept}. "
    "The captions should be in English and should be no longer than 150 characters."
)
MAX_NEW_TOKENS = 128
TEMPERATURE = 0.8
TOP_K = 10

_SENTENCES = TypeAdapter(tuple[Text, ...])


class SeededTopK(LogitsProcessor):  # type: ignore[misc]
    """Sample a token from the k most likely ones, and set all other scores to -inf.

    It has its own random generator, because `generate(do_sample=True)` uses torch's global generator: to seed that one
    would change the random numbers of all other threads, and their draws would change these. The generator runs on the
    CPU, so a seed gives the same random numbers on every device.
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        top = scores.topk(TOP_K, dim=-1)
        chances = (top.values.float() / TEMPERATURE).softmax(dim=-1).cpu()
        drawn = torch.multinomial(chances, num_samples=1, generator=self.generator).to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter(-1, top.indices.gather(-1, drawn), 0.0)


def prompts(
    *,
    models: Models,
    on_step: OnStep,
    caption: str,
    target_prompt: str | None,
    source_concept: str | None,
    target_concept: str | None,
    concept_prompts: Literal["caption", "sentences"],
    num_prompts: int,
    seed: int,
) -> dict[Artifact, Any]:
    """Return the caption and a target prompt, or `num_prompts` sentences for each of two concepts.

    Two concepts get the caption, if `concept_prompts` says so and the caption names the source. Flan-T5 is then not
    needed, and not loaded here.

    Raises:
        TextTooLong: a concept has so many tokens that the prompter would not read all of its instruction.
        NotFinite: the prompter returned values that are not finite.
    """
    if source_concept and target_concept:
        if concept_prompts == "caption" and (made := caption_prompts(caption, source_concept, target_concept)):
            on_step(1, 1)
            return {Artifact.PROMPTS: made}
        source, target = _sentences(models, on_step, (source_concept, target_concept), num_prompts, seed)
        return {Artifact.PROMPTS: Prompts(source=source, target=target)}
    assert target_prompt  # EditRequest refuses a request without concepts and without a target prompt.
    on_step(1, 1)
    return {Artifact.PROMPTS: Prompts(source=(caption,), target=(target_prompt,))}


@torch.no_grad()
def _sentences(
    models: Models, on_step: OnStep, concepts: tuple[str, ...], num_prompts: int, seed: int
) -> list[tuple[str, ...]]:
    """Return `num_prompts` sentences for each concept, with the instruction and sampling of the DiffEdit guide."""
    tokenizer, model = models.prompter
    wanted = [concept for concept in concepts for _ in range(num_prompts)]
    instructions = [INSTRUCTION.format(concept=concept) for concept in wanted]
    inputs = tokenizer(instructions, padding=True, verbose=False, return_tensors="pt").to(models.device)
    lengths = inputs.attention_mask.sum(dim=1)[::num_prompts].tolist()
    for name, length in zip(("source", "target"), lengths, strict=True):
        if length > tokenizer.model_max_length:
            raise TextTooLong(f"instruction with the {name} concept", length, tokenizer.model_max_length)
    tokens = model.generate(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        logits_processor=LogitsProcessorList([FiniteScores("prompter", model), SeededTopK(seed)]),
        stopping_criteria=StoppingCriteriaList([StepPerToken(on_step, MAX_NEW_TOKENS)]),
    )
    texts = [tidy(text) for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
    # The embedding of an empty sentence would move the mean towards the unconditional embedding.
    filled = [text or concept for text, concept in zip(texts, wanted, strict=True)]
    on_step(MAX_NEW_TOKENS, MAX_NEW_TOKENS)
    return [tuple(filled[start : start + num_prompts]) for start in range(0, len(filled), num_prompts)]


def check(
    prompts: Prompts,
    *,
    source_concept: str | None,
    concept_prompts: Literal["caption", "sentences"],
    num_prompts: int,
) -> None:
    """Raise ArtifactError unless there are as many sentences as `prompts` gives, each as a request may have it."""
    counts = {num_prompts} if source_concept else {1}
    if concept_prompts == "caption":
        counts.add(1)
    found = len(prompts.source), len(prompts.target)
    if found[0] != found[1] or found[0] not in counts:
        wanted = " or ".join(str(count) for count in sorted(counts))
        raise ArtifactError(f"holds {found[0]} and {found[1]} sentences instead of {wanted} each")
    try:
        _SENTENCES.validate_python(prompts.source + prompts.target)
    except ValidationError as error:
        raise ArtifactError(f"holds a sentence that no request may have ({explain(error)})") from error


DEFINITION = StageDefinition(prompts, "prompter", {Artifact.PROMPTS: Output(json_codec(Prompts), check=check)})
