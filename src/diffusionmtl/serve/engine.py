"""One network, many who ask: requests are answered one after the other, and can be given up in the middle."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from diffusionmtl.serve.limits import CLOSED, Limits, Refused
from diffusionmtl.serve.memory import give_back_memory

T = TypeVar("T")
# Seconds without an answer after which memory is given back: soon, and again when the last answers must have been sent.
_PAUSES = (2.0, 10.0)


class Ticket(Generic[T]):
    """A request in the queue.

    Attributes:
        future: its answer; what went wrong, `Refused` for instance, is its exception.
        started: whether it is, or was, its turn.
    """

    def __init__(self, seconds: float) -> None:
        self.future: Future[T] = Future()
        self.started = threading.Event()
        self._stopped = threading.Event()
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def stop(self) -> None:
        """Nobody waits for it any more: it ends before its next layer, or before it begins."""
        self._stopped.set()

    def check(self) -> None:
        """Go on?

        Raises:
            Refused: it was stopped, or took too long.
        """
        if self._stopped.is_set():
            raise Refused(CLOSED, "given up by whoever asked")
        if time.monotonic() > self._end:
            raise Refused(
                504, f"no answer within {self._seconds:g} seconds; send a smaller image, or ask for fewer samples"
            )


class Engine:
    """Answers in the order of asking; a context, which ends with the last answer.

    Args:
        limits: how many may wait, and how long.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="diffusionmtl-serve")
        self._lock = threading.Lock()
        self._inside = 0
        self._answered, self._closed = threading.Event(), False
        self._pauses, self._give_back = _PAUSES, give_back_memory
        threading.Thread(target=self._tidy, name="diffusionmtl-tidy", daemon=True).start()

    @property
    def inside(self) -> int:
        """How many requests are waiting or being answered."""
        return self._inside

    def submit(self, work: Callable[[], T]) -> Ticket[T]:
        """Queue up; returns at once.

        Raises:
            Refused: 503, too many are waiting.
        """
        with self._lock:
            if self._inside > self._limits.waiting:
                raise Refused(503, f"{self._inside} requests are being answered already; try again in a moment")
            self._inside += 1
        ticket: Ticket[T] = Ticket(self._limits.seconds)
        self._pool.submit(self._answer, ticket, work)
        return ticket

    def close(self) -> None:
        """Answer nobody any more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._closed = True
        self._answered.set()

    def _answer(self, ticket: Ticket[Any], work: Callable[[], Any]) -> None:
        result, error = None, None
        try:
            ticket.started.set()
            ticket.check()
            with stoppable(ticket.check):
                result = work()
        except (MemoryError, torch.OutOfMemoryError):
            error = Refused(503, "not enough memory for this image; send a smaller one, or ask for fewer samples")
        except BaseException as caught:  # whatever it is belongs to the one who asked, not to the queue
            # Its traceback would keep every tensor alive that the network was busy with.
            error = caught.with_traceback(None) if isinstance(caught, Refused) else caught
        finally:
            with self._lock:
                self._inside -= 1
        self._answered.set()
        if error is None:
            ticket.future.set_result(result)
        else:
            ticket.future.set_exception(error)

    def _tidy(self) -> None:
        """Give memory back whenever there was an answer and then none for a while."""
        while self._answered.wait() and not self._closed:
            self._answered.clear()
            for pause in self._pauses:
                if self._answered.wait(pause):
                    break
                self._give_back()


@contextmanager
def stoppable(check: Callable[[], None]) -> Iterator[None]:
    """Ask `check` before every layer that this thread runs: what it throws ends the work."""
    mine = threading.get_ident()

    def ask(module: torch.nn.Module, args: Any) -> None:
        if threading.get_ident() == mine:
            check()

    hook = register_module_forward_pre_hook(ask)
    try:
        yield
    finally:
        hook.remove()
