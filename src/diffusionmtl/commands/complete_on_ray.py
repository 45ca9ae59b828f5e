"""`diffusionmtl complete --ray`: the same files as `complete` writes, by the workers of a Ray cluster."""

from collections.abc import Callable
from functools import partial

from diffusionmtl.commands.completing import Job, Limits, Plan
from diffusionmtl.commands.on_ray import Shared, gathered, shared
from diffusionmtl.errors import UserError
from diffusionmtl.scale.pool import Answer, Cluster


def complete_on_ray(
    job: Job, limits: Limits, cluster: Cluster, progress: Callable[[int, int], None] | None
) -> list[dict[str, float]]:
    """Complete every image, with a network in each worker of a Ray cluster, which reads and writes by itself.

    Workers see the run, its data and the folder under the paths that they have here: on one machine, or on a disk that
    all machines share. An image whose worker dies goes to another; what is there already is left alone.

    Returns:
        As `Job.complete`, per image in the data's order.

    Raises:
        UserError: an image cannot be completed, named after all others are; and as `scale.pool.work`.
    """
    plan, names = job.plan, job.dataset.names
    with shared(plan.run, plan.out, job.identity) as seen:
        make = partial(_answering, plan.elsewhere(seen.run, seen.out), seen, limits)
        shares, faults = gathered(make, names, cluster, progress)
    if faults:
        first = min(faults)
        raise UserError(
            f"{len(faults)} of {len(names)} images could not be completed; mend this and go on with --resume: "
            f"image '{names[first]}': {faults[first]}"
        )
    return [shares[number] for number in range(len(names))]


def _answering(plan: Plan, seen: Shared, limits: Limits) -> Answer:
    """What a worker answers with."""
    job = plan.job()
    seen.check(job.identity)
    index_of = {name: index for index, name in enumerate(job.dataset.names)}
    return lambda name: job.complete(index_of[name], limits)
