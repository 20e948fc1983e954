"""The texts of an edit with those that models have found."""

from fastapi import APIRouter

from diffedit import Artifact, StoreUnavailable
from diffedit.errors import ArtifactError
from diffedit_web.access import Called
from diffedit_web.models import Answer
from diffedit_web.problem_route import ProblemRoute
from diffedit_web.problems import documented
from diffedit_web.routes.common import OF_AN_EDIT, ROUTE_NAME, EditId, operation_id, owned_job

router = APIRouter(route_class=ProblemRoute, generate_unique_id_function=operation_id)


class UsedTexts(Answer):
    """The texts with which an edit is made, given or found. Null: not found yet, or not needed."""

    caption: str | None
    """What the picture shows: as it was given, or as the captioner describes it."""
    source_prompt: str | None
    """What the picture shows before the edit. If the language model made several sentences, the first one."""
    target_prompt: str | None
    """What the picture shows after the edit. If the language model made several sentences, the first one."""
    source_prompts: list[str]
    """All sentences of before; none while `source_prompt` is null."""
    target_prompts: list[str]
    """All sentences of after; none while `target_prompt` is null."""


@router.get(
    "/v1/edits/{edit_id}/texts",
    responses=documented(*OF_AN_EDIT, ArtifactError, StoreUnavailable),
    name=f"{ROUTE_NAME}texts",
)
async def get_texts(caller: Called, edit_id: EditId) -> UsedTexts:
    """Get the texts with which an edit is made: those that were given, and those that models have found so far."""
    job, status = await owned_job(caller, edit_id)
    result = await job.result_so_far()
    caption, given = None, status.request
    source, target = _present(given.source_prompt), _present(given.target_prompt)
    if given.given_caption or Artifact.CAPTION in status.artifact_keys:
        caption = await result.caption()
    if given.given_prompts or Artifact.PROMPTS in status.artifact_keys:
        prompts = await result.prompts()
        source, target = list(prompts.source), list(prompts.target)
    return UsedTexts(
        caption=caption,
        source_prompt=source[0] if source else None,
        target_prompt=target[0] if target else None,
        source_prompts=source,
        target_prompts=target,
    )


def _present(text: str | None) -> list[str]:
    return [] if text is None else [text]
