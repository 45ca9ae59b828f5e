"""The same answers for programs: HTTP and JSON, described by OpenAPI."""

import asyncio
import base64
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, File, Query, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile as Sent

from diffusionmtl.serve.answer import Answer, Asked, as_zip, png, stage_pictures, value_file
from diffusionmtl.serve.engine import Ticket
from diffusionmtl.serve.limits import CLOSED, Refused
from diffusionmtl.serve.problems import PROBLEMS, add_problems, add_unknown_addresses, check_names
from diffusionmtl.serve.schemas import Health, Predicted, RunAbout, TaskAnswer
from diffusionmtl.serve.service import Service

T = TypeVar("T")
LARGEST_SEED = 2**53 - 1
"""JSON keeps whole numbers up to here."""
_POLL = 0.1


def make_api(service: Service) -> FastAPI:
    """The application; the page is mounted on it."""
    # The pages that FastAPI would add load their scripts from elsewhere.
    app = FastAPI(
        title="diffusionmtl",
        version=version("diffusionmtl"),
        description=f"Every task of the run {service.about.name} for an image.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    add_problems(app, _expected(service))
    app.get("/api/health", summary="Is it there?", tags=["run"])(_health(service))
    app.get("/api/run", summary="What it answers, and how well", tags=["run"])(_run(service))
    app.post(
        "/api/predict",
        summary="Every task for an image",
        tags=["predict"],
        response_model=Predicted,
        responses={
            **PROBLEMS,
            200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
        },
    )(_predict(service))
    add_unknown_addresses(app)
    return app


def _health(service: Service) -> Any:
    def health() -> Health:
        return Health(status="ok", inside=service.engine.inside, waiting_limit=service.limits.waiting)

    return health


def _run(service: Service) -> Any:
    def run() -> RunAbout:
        return RunAbout.of(service)

    return run


def _expected(service: Service) -> dict[str, str]:
    """What each parameter must be."""
    return {
        "samples": f"from 1 to {service.limits.samples}",
        "seed": f"from 0 to {LARGEST_SEED}",
        "steps": "true or false",
        "format": "json or zip",
    }


def _predict(service: Service) -> Any:
    most = service.limits.samples
    known = _expected(service)

    async def predict(
        request: Request,
        image: Annotated[UploadFile, File(description="JPEG, PNG, WebP or TIFF")],
        samples: Annotated[
            int, Query(ge=1, le=most, description="noise draws; more than one give an uncertainty")
        ] = min(4, most),
        seed: Annotated[int, Query(ge=0, le=LARGEST_SEED, description="of the noise; equal seeds, equal bits")] = 0,
        steps: Annotated[bool, Query(description="also the pictures of every denoising step")] = False,
        format: Annotated[Literal["json", "zip"], Query(description="zip: all files as they are")] = "json",
    ) -> Response:
        await check_names(request, known)
        with tempfile.TemporaryDirectory(prefix="diffusionmtl-") as scratch:
            path = Path(scratch, "sent")
            await run_in_threadpool(_store, image, path)
            ticket = service.ask(path, image.filename, Asked(samples, seed, steps))
            found = await _waited(ticket, request)
        return await run_in_threadpool(_response, found, service.about.name, format)

    return predict


def _store(image: Sent, path: Path) -> None:
    with path.open("wb") as stream:
        shutil.copyfileobj(image.file, stream)


async def _waited(ticket: Ticket[T], request: Request) -> T:
    """The answer; given up when whoever asked has gone."""
    try:
        while not ticket.future.done():
            if await request.is_disconnected():
                raise Refused(CLOSED, "given up by whoever asked")
            await asyncio.sleep(_POLL)
        return ticket.future.result()
    finally:
        ticket.stop()


def _response(found: Answer, run: str, form: str) -> Response:
    if form == "zip":
        headers = {"content-disposition": 'attachment; filename="prediction.zip"'}
        return Response(as_zip(found, run), media_type="application/zip", headers=headers)
    return JSONResponse(predicted(found).model_dump())


def predicted(found: Answer) -> Predicted:
    """An answer, ready for JSON."""
    height, width = found.prediction.image.shape[-2:]
    with tempfile.TemporaryDirectory(prefix="diffusionmtl-") as scratch:
        tasks = {name: _task(found, name, Path(scratch)) for name in found.prediction}
    return Predicted(
        name=found.name,
        height=height,
        width=width,
        samples=found.asked.samples,
        seed=found.asked.seed,
        seconds=round(found.seconds, 3),
        tasks=tasks,
    )


def _task(found: Answer, name: str, scratch: Path) -> TaskAnswer:
    task = found.prediction[name]
    stages = dict(stage_pictures(task, [step[name] for step in found.steps]))
    picture = stages.popitem()[1]
    file = value_file(task, scratch, "value")
    unsure = task.draw_uncertainty()
    return TaskAnswer(
        kind=task.task.kind,
        unit=task.task.unit,
        file_name=f"{name}/{found.name}{file.suffix}",
        file=_text(file.read_bytes()),
        picture=_text(png(picture)),
        uncertainty=None if unsure is None else _text(png(unsure)),
        uncertainty_unit=task.task.spread_unit,
        uncertainty_mean=None if task.uncertainty is None else float(task.uncertainty.mean()),
        stages={stage: _text(png(drawn)) for stage, drawn in stages.items()} if found.asked.steps else {},
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
