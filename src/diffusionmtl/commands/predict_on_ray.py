"""`diffusionmtl predict --ray`: the same files as `predict` writes, by the workers of a Ray cluster."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from diffusionmtl.commands.finished import FOLDER, digest
from diffusionmtl.commands.output import progress_bar
from diffusionmtl.commands.predict import Job, Plan, claim, raise_if_any
from diffusionmtl.commands.sources import Source, find_sources
from diffusionmtl.errors import UserError
from diffusionmtl.scale.pool import Answer, Cluster, work
from diffusionmtl.scale.urls import fetched, find_urls, is_url

_UNFINISHED = re.compile(r"\..+\.\d+\.part")


def predict_on_ray(plan: Plan, images: Iterable[str], cluster: Cluster, progress: bool = True) -> list[Path]:
    """Predict as `predict` does, with a network in each worker of a Ray cluster, which reads and writes by itself.

    Workers see the run and `plan.out` under the paths that they have here: on one machine, or on a disk that all
    machines share. An image whose worker dies goes to another. A worker passes over what is already answered, so
    nothing is done twice when an image is handed out again, or when a job that was killed is called again with
    `plan.resume`.

    Args:
        images: as for `predict`, and URLs of what fsspec reads.

    Returns:
        The pictures, in the order of the images, also of what was left out.

    Raises:
        UserError: as `predict`, and as `scale.pool.work`.
    """
    sources = _sources(images)
    job = replace(plan, device="cpu").job()
    claim(plan.out, job.predictor.tasks)
    _sweep(plan.out)
    names = [_name(job, source) for source in sources]
    if not plan.resume:
        for name in names:
            job.finished.reopen(name)
    inputs = [{"origin": s.origin, "name": name} for s, name in zip(sources, names, strict=True)]
    show = progress_bar("predicting") if progress else None
    pictures: dict[int, list[Path]] = {}
    failed: dict[int, str] = {}
    with _token(plan.out) as token:
        make = partial(_answering, _for_workers(plan), job.finished.settings, token)
        for done, outcome in enumerate(work(make, inputs, cluster), start=1):
            source = sources[outcome.number]
            if outcome.fault is None:
                pictures[outcome.number] = [plan.out / picture for picture in outcome.value]
            else:
                failed[outcome.number] = _as_given(outcome.fault, source)
            if show:
                show(done, len(sources))
    raise_if_any([failed[number] for number in sorted(failed)], len(sources))
    return [picture for number in sorted(pictures) for picture in pictures[number]]


def _sources(images: Iterable[str]) -> list[Source]:
    found: dict[str | Path, Source] = {}
    for given in images:
        if is_url(given):
            here = [Source(Path(url), name, url) for url, name in find_urls(given)]
        else:
            here = find_sources([given])
        for source in here:
            found.setdefault(source.url or source.path, source)
    return list(found.values())


def _name(job: Job, source: Source) -> str:
    def content() -> str:
        with _on_disk(source) as path:
            return digest(path)

    return job.finished.name_for(source, content)


def _on_disk(source: Source) -> Any:
    """A context that gives the file."""
    return nullcontext(source.path) if source.url is None else fetched(source.url)


def _for_workers(plan: Plan) -> Plan:
    """What is done is not done again, whoever did it; a worker stands in a folder of its own."""
    return replace(plan, run=plan.run.absolute(), out=plan.out.absolute(), resume=True)


def _answering(plan: Plan, settings: str, token: Path) -> Answer:
    """What a worker answers with."""
    job = plan.job()
    if job.finished.settings != settings:
        raise UserError(f"{plan.run}: is another run there; put the run on a disk that all machines share")
    if not token.is_file():
        raise UserError(f"--out {plan.out}: is another folder there; choose one on a disk that all machines share")

    def answer(given: dict[str, str]) -> list[str]:
        origin = given["origin"]
        source = Source(Path(origin), given["name"], origin if is_url(origin) else None)
        with _on_disk(source) as path:
            pictures = job.answer(replace(source, path=path), given["name"])
        return [picture.relative_to(plan.out).as_posix() for picture in pictures]

    return answer


def _as_given(fault: str, source: Source) -> str:
    """A fault in the words of who asked: with the path as it was given, and with one in any case."""
    said = fault.replace(source.origin, source.url or str(source.path))
    return said if (source.url or str(source.path)) in said else f"{source.url or source.path}: {said}"


@contextmanager
def _token(out: Path) -> Iterator[Path]:
    """A file that only who sees this very folder can see; afterwards what dead workers began is gone as well."""
    path = out.absolute() / FOLDER / f".{uuid4().hex}.{os.getpid()}.part"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    try:
        yield path
    finally:
        _sweep(out)


def _sweep(out: Path) -> None:
    for path in out.rglob(".*.part"):
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)
