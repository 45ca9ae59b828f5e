"""Work on a cluster: every input once, whoever dies; and what goes wrong before there is one."""

import sys

import pytest

from diffusionmtl.errors import UserError
from diffusionmtl.scale.pool import LOST, Cluster, Outcome, work
from tests.scale import poison


def refusing():
    raise UserError("runs/kitchen: no such run")


@pytest.mark.slow
def test_a_poisonous_input_is_the_only_one_lost(ray):
    inputs = [*range(9), "poison", "bug", *range(11, 20)]
    found = {outcome.number: outcome for outcome in work(poison.make_dying, inputs, Cluster())}
    assert sorted(found) == list(range(20))
    assert found[9] == Outcome(9, fault=LOST)
    assert found[10].fault == "ZeroDivisionError: seven by nought"
    assert [found[i].value[0] for i in range(20) if i not in (9, 10)] == [*range(9), *range(11, 20)]
    assert len({found[i].value[1] for i in range(20) if i not in (9, 10)}) >= 2


@pytest.mark.slow
def test_what_is_no_fault_of_an_input_ends_the_work(ray):
    with pytest.raises(OSError, match="No space left") as caught:
        list(work(poison.make_dying, ["full"], Cluster()))
    assert caught.value.filename == "/a/b"
    with pytest.raises(UserError, match=r"runs/kitchen: no such run \(on "):
        list(work(refusing, [1, 2], Cluster()))
    with pytest.raises(UserError, match="no GPU"):
        list(work(refusing, [1, 2], Cluster(gpu=True)))


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'diffusionmtl\[scale\]'"):
        list(work(refusing, [1], Cluster()))


def test_no_input_is_no_work():
    assert list(work(refusing, [], Cluster())) == []
