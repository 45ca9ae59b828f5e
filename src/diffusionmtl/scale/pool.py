"""Work on many inputs in a pool of Ray actors, each of which prepares once; needs the extra `scale`.

Ray Data streams: a worker gets its next inputs when it is done with the last, so nothing piles up, and what is handed
over is names, never images. An input whose worker dies is given to another. So work has to be of a kind that may be
begun again: an input that is already answered is to be recognised by the answer.
"""

import json
import logging
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from diffusionmtl.errors import UserError, in_one_line

LOCAL = "local"
# Inputs handed over at once: fewer would make Ray the slow part of small images.
TOGETHER = 8
# How often an input is given to a new worker after the death of the one before.
RETRIES = 2
LOST = (
    "its worker died each time, most likely for want of memory; give fewer --workers or --samples, or --tile to predict"
)
# Only names travel through it; the least that Ray allows is 75 MB.
_STORE_BYTES = 100_000_000


@dataclass(frozen=True)
class Cluster:
    """Where to work.

    Attributes:
        address: `local` starts a cluster of this machine that ends with the work; else a running one, as
            `ray.init` names it: `auto`, or HOST:PORT.
        workers: processes; as many as the cluster has processors, or GPUs where they are used, if None.
        gpu: each worker takes a GPU for itself.
    """

    address: str = LOCAL
    workers: int | None = None
    gpu: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        number: which one, from 0.
        value: the answer, as JSON brings it back.
        fault: why there is none.
    """

    number: int
    value: Any = None
    fault: str | None = None


Answer = Callable[[Any], Any]


def check_installed() -> None:
    """See that there is Ray, before long work that it is to go on with.

    Raises:
        UserError: there is not; says what to install.
    """
    _ray()


def work(make: Callable[[], Answer], inputs: Sequence[Any], cluster: Cluster) -> Iterator[Outcome]:
    """Answer inputs in any order, each with what `make` made once per worker.

    Args:
        make: picklable; called in each worker.
        inputs: of what JSON can say, as are the answers.

    Raises:
        UserError: Ray is missing, nobody answers at the address, no worker fits, or `make` raised one.
        OSError: as an answer raised it: the disk is full, for instance, which is no fault of an input.
    """
    if not inputs:
        return
    ray, data = _ray()
    with _connected(ray, cluster):
        workers = min(_workers(ray, cluster), len(inputs))
        waiting = dict(enumerate(inputs))
        # What is lost together is tried again alone, so that nobody is lost for a neighbour's fault.
        for together in (min(TOGETHER, -(-len(inputs) // (4 * workers))), 1):
            if not waiting:
                return
            rows = [{"number": number, "input": json.dumps(given)} for number, given in waiting.items()]
            blocks = -(-len(rows) // together)
            dataset = _quiet(data.from_items(rows, override_num_blocks=blocks))
            answered = _mapped(data, dataset, make, min(workers, blocks), cluster.gpu)
            for outcome in _outcomes(ray, answered, cluster):
                waiting.pop(outcome.number, None)
                yield outcome
        yield from (Outcome(number, fault=LOST) for number in waiting)


class _Worker:
    """An actor; whatever goes wrong becomes part of what it says, so that a death means a death."""

    def __init__(self, make: Callable[[], Answer]) -> None:
        self._answer: Answer | None = None
        try:
            self._answer = make()
        except UserError as error:
            self._refusal = f"{error} (on {platform.node() or 'a worker'})"

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"number": row["number"], "said": json.dumps(self._say(json.loads(row["input"])))}

    def _say(self, given: Any) -> dict[str, Any]:
        if self._answer is None:
            return {"refusal": self._refusal}
        try:
            return {"value": self._answer(given)}
        except UserError as error:
            return {"fault": str(error)}
        except OSError as error:
            if error.errno is None:
                return {"fault": in_one_line(error, 200, typed=True)}
            return {"errno": error.errno, "strerror": error.strerror, "filename": str(error.filename or "")}
        except Exception as error:
            return {"fault": in_one_line(error, 200, typed=True)}


def _outcomes(ray: Any, answered: Any, cluster: Cluster) -> Iterator[Outcome]:
    loud = logging.getLogger("ray.data")
    level = loud.level
    loud.setLevel(logging.CRITICAL)  # it shows a traceback per lost input; they are named at the end
    try:
        for row in answered.iter_rows():
            said = json.loads(row["said"])
            if "refusal" in said:
                raise UserError(said["refusal"])
            if "errno" in said:
                raise OSError(said["errno"], said["strerror"], said["filename"] or None)
            yield Outcome(int(row["number"]), **said)
    except ray.exceptions.RayError as error:
        raise UserError(
            f"--ray {cluster.address}: the cluster failed ({in_one_line(error, 200, typed=True)}); go on with --resume"
        ) from None
    finally:
        loud.setLevel(level)


def _mapped(data: Any, dataset: Any, make: Callable[[], Answer], workers: int, gpu: bool) -> Any:
    with warnings.catch_warnings():
        # Ray 2.64 takes `max_task_retries` away, hence the upper bound in pyproject.toml: unless it is set, an input
        # that kills its worker is tried for ever.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        return dataset.map(
            _Worker,
            fn_constructor_args=(make,),
            compute=data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
            num_cpus=None if gpu else 1,
            num_gpus=1 if gpu else None,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )


def _quiet(dataset: Any) -> Any:
    """It draws no bars, and a lost input does not end it."""
    dataset.context.max_errored_blocks = -1
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    return dataset


def _workers(ray: Any, cluster: Cluster) -> int:
    what = "GPU" if cluster.gpu else "CPU"
    there = int(ray.cluster_resources().get(what, 0))
    if there < 1:
        raise UserError(f"--ray {cluster.address}: the cluster has no {what}; choose another --device")
    return min(cluster.workers or there, there)


@contextmanager
def _connected(ray: Any, cluster: Cluster) -> Iterator[None]:
    """Until the end of the work; a connection that was there before stays."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    words: dict[str, Any] = {}
    if cluster.address == LOCAL:
        words = dict(include_dashboard=False, object_store_memory=_STORE_BYTES)
        words |= {} if cluster.gpu else {"num_cpus": cluster.workers}
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR, **words)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise UserError(
            f"--ray {cluster.address}: no cluster there ({in_one_line(error, 200, typed=True)}); start one with 'ray "
            f"start --head', or say {LOCAL}"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _ray() -> tuple[Any, Any]:
    try:
        import ray  # noqa: PLC0415 - an optional extra
        import ray.data  # noqa: PLC0415
    except ImportError as error:
        missing = error.name or "ray"
        raise UserError(f"--ray: needs {missing}: pip install 'diffusionmtl[scale]'") from None
    return ray, ray.data
