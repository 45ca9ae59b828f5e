import gc
import threading
import weakref

import pytest
import torch
from torch import nn

from diffusionmtl.serve import engine as engine_module
from diffusionmtl.serve.engine import Engine
from diffusionmtl.serve.limits import CLOSED, Limits, Refused


@pytest.fixture
def engine():
    found = Engine(Limits(waiting=1, seconds=30.0))
    yield found
    found.close()


def test_answers_and_mistakes_reach_the_one_who_asked(engine):
    assert engine.submit(lambda: 3).future.result() == 3
    with pytest.raises(ZeroDivisionError):
        engine.submit(lambda: 1 / 0).future.result()
    assert engine.inside == 0


def test_too_many_are_turned_away(engine):
    go = threading.Event()
    tickets = [engine.submit(lambda: go.wait(20)), engine.submit(lambda: 2)]
    with pytest.raises(Refused, match="2 requests") as refused:
        engine.submit(lambda: 3)
    assert refused.value.status == 503
    go.set()
    assert [ticket.future.result() for ticket in tickets] == [True, 2]
    assert engine.submit(lambda: 4).future.result() == 4


def test_work_ends_at_the_next_layer_when_nobody_waits(engine):
    begun = threading.Event()
    layers = nn.Sequential(*[nn.Identity() for _ in range(3)])
    seen = []

    def work():
        layers(torch.zeros(1))
        begun.set()
        seen.append("before")
        assert stopped.wait(20)
        layers(torch.zeros(1))
        seen.append("after")

    stopped = threading.Event()
    ticket = engine.submit(work)
    assert begun.wait(20)
    ticket.stop()
    stopped.set()
    with pytest.raises(Refused) as refused:
        ticket.future.result()
    assert refused.value.status == CLOSED and seen == ["before"]


def test_work_that_was_given_up_while_waiting_never_begins(engine):
    go = threading.Event()
    engine.submit(lambda: go.wait(20))
    ran = []
    waiting = engine.submit(lambda: ran.append(1))
    waiting.stop()
    go.set()
    with pytest.raises(Refused):
        waiting.future.result()
    assert not ran


def test_work_that_takes_too_long_ends():
    engine = Engine(Limits(seconds=0.0))
    with pytest.raises(Refused, match="within 0 seconds") as refused:
        engine.submit(lambda: 1).future.result()
    assert refused.value.status == 504
    engine.close()


def test_layers_of_other_threads_are_left_alone(engine):
    go, begun = threading.Event(), threading.Event()

    def work():
        begun.set()
        go.wait(20)

    ticket = engine.submit(work)
    assert begun.wait(20)
    ticket.stop()
    assert nn.Identity()(torch.ones(1)) == 1
    go.set()
    ticket.future.result()


def test_an_answer_is_not_kept_by_the_queue(engine):
    class Large:
        pass

    ticket = engine.submit(Large)
    reference = weakref.ref(ticket.future.result())
    engine.submit(lambda: None).future.result()
    del ticket
    gc.collect()
    assert reference() is None


def test_memory_is_given_back_once_nobody_has_come_for_a_moment(monkeypatch):
    given = threading.Event()
    monkeypatch.setattr(engine_module, "_PAUSES", (0.05,))
    monkeypatch.setattr(engine_module, "give_back_memory", given.set)
    engine, go = Engine(Limits()), threading.Event()
    try:
        ticket = engine.submit(lambda: go.wait(20))
        assert not given.wait(0.3)
        go.set()
        ticket.future.result()
        assert given.wait(20)
    finally:
        engine.close()


def test_no_memory_is_said_in_words(engine):
    def work():
        raise MemoryError

    with pytest.raises(Refused, match="not enough memory") as refused:
        engine.submit(work).future.result()
    assert refused.value.status == 503
