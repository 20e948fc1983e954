"""Uploads that never pass this server, the served models, and the health of the service."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from diffedit import AsyncClient, Health, InvalidRequest, StoreUnavailable, WorkerInfo
from diffedit.contract.validation import explain
from diffedit_web.access import Called
from diffedit_web.bodies import read_json
from diffedit_web.models import HealthReport, Model, Models, Upload, UploadRequest
from diffedit_web.openai_errors import ModelRoute
from diffedit_web.problem_route import ProblemRoute
from diffedit_web.problems import documented, refused
from diffedit_web.routes.common import EVERY_ROUTE, OF_A_BODY, ROUTE_NAME, operation_id

router = APIRouter(route_class=ProblemRoute, generate_unique_id_function=operation_id)
models_router = APIRouter(route_class=ModelRoute, generate_unique_id_function=operation_id)

HEALTH_SECONDS = 2.0
"""For which a report of the health is given again: anybody may ask for it."""
UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/UploadRequest"}}},
    }
}


@router.post(
    "/v1/uploads",
    status_code=201,
    responses=documented(*EVERY_ROUTE, *OF_A_BODY, StoreUnavailable),
    openapi_extra=UPLOAD_BODY,
    name=f"{ROUTE_NAME}upload",
)
async def make_upload(request: Request, caller: Called) -> Upload:
    """Prepare an upload of a picture straight to the bucket. Nothing is sent now.

    Send the request that the answer describes, then submit the edit with `uploaded` (within a day).
    """
    body = await read_json(request)
    try:
        asked = UploadRequest.model_validate(body.values)
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from None
    url = await caller.client.upload_url(asked.content_type, size=asked.size)
    return Upload.model_validate(url.model_dump(include=set(Upload.model_fields)))


@models_router.get("/v1/models", responses=documented(*EVERY_ROUTE), name=f"{ROUTE_NAME}models")
async def list_models(caller: Called) -> Models:
    """List the model profiles that live workers serve, in the form of OpenAI's API."""
    return Models(data=await _served(caller.client))


@models_router.get("/v1/models/{model}", responses=documented(*EVERY_ROUTE, 404), name=f"{ROUTE_NAME}model")
async def show_model(
    caller: Called, model: Annotated[str, Path(max_length=32, description="Its name.", examples=["sd21"])]
) -> Model:
    """Show a model profile that live workers serve, in the form of OpenAI's API."""
    for each in await _served(caller.client):
        if each.id == model:
            return each
    raise refused(404, "no live worker serves a model profile of this name")


async def _served(client: AsyncClient) -> list[Model]:
    workers: dict[str, WorkerInfo] = {}
    for worker in (await client.health()).workers:
        if not worker.paused:
            workers.setdefault(worker.profile, worker)
    return [
        Model(
            id=name,
            about=worker.profile_about,
            presets=["guide", *sorted(worker.profile_presets)],
            defaults=worker.profile_params,
        )
        for name, worker in sorted(workers.items())
    ]


def health_router(client: AsyncClient) -> APIRouter:
    """Return the route of the health, which needs no key: load balancers ask for it."""
    router, last = APIRouter(route_class=ProblemRoute, generate_unique_id_function=operation_id), _Remembered(client)
    answers: dict[int | str, dict[str, Any]] = {
        503: {"model": HealthReport, "description": "No edit is accepted: Redis or S3 does not answer."}
    }

    @router.head("/v1/health", include_in_schema=False)
    @router.get("/v1/health", response_model=HealthReport, responses=answers, name=f"{ROUTE_NAME}health")
    async def health() -> Response:
        """Show whether an edit that is submitted now can run. Needs no key.

        A report is up to two seconds old.
        """
        report = await last.report()
        return JSONResponse(report.model_dump(), 503 if report.status == "down" else 200)

    return router


class _Remembered:
    """The last report of the health, so that many who ask cost one request to the services."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._lock = asyncio.Lock()
        self._until = 0.0
        self._report: HealthReport | None = None

    async def report(self) -> HealthReport:
        async with self._lock:
            if self._report is None or time.monotonic() >= self._until:
                self._report = _public(await self._client.health())
                self._until = time.monotonic() + HEALTH_SECONDS
            return self._report


def _public(health: Health) -> HealthReport:
    broker, object_store = health.broker == "ok", health.object_store == "ok"
    return HealthReport(
        status="down" if not (broker and object_store) else "ok" if health.ok else "degraded",
        broker=broker,
        object_store=object_store,
        workers=sum(not worker.paused for worker in health.workers),
        waiting=sum(health.queues.values()),
    )
