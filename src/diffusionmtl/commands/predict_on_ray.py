"""`diffusionmtl predict --ray`: the same files as `predict` writes, by the workers of a Ray cluster."""

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from diffusionmtl.commands.finished import digest
from diffusionmtl.commands.on_ray import Shared, gathered, shared
from diffusionmtl.commands.output import progress_bar
from diffusionmtl.commands.predict import Job, Plan, claim, raise_if_any
from diffusionmtl.commands.sources import Source, find_sources
from diffusionmtl.scale.pool import Answer, Cluster
from diffusionmtl.scale.urls import fetched, find_urls, is_url


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
    job.say_what_flip_leaves_out()
    claim(plan.out, job.predictor.tasks)
    names = [_name(job, source) for source in sources]
    if not plan.resume:
        for name in names:
            job.finished.reopen(name)
    inputs = [{"origin": s.origin, "name": name} for s, name in zip(sources, names, strict=True)]
    show = progress_bar("predicting") if progress else None
    with shared(plan.run, plan.out, job.finished.settings) as seen:
        pictures, faults = gathered(partial(_answering, plan, seen), inputs, cluster, show)
    raise_if_any([_as_given(faults[number], sources[number]) for number in sorted(faults)], len(sources))
    return [plan.out / picture for number in sorted(pictures) for picture in pictures[number]]


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


def _answering(plan: Plan, seen: Shared) -> Answer:
    """What a worker answers with. What is done is not done again, whoever did it."""
    plan = replace(plan, run=seen.run, out=seen.out, resume=True)
    job = plan.job()
    seen.check(job.finished.settings)

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
