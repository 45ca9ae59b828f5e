"""The page answers for files that were sent to it, and for no other file that a request names."""

import json

import pytest
from starlette.testclient import TestClient

from tests.serve.conftest import HERE, photograph


@pytest.fixture(scope="module")
def visitor(application_of_run):
    """With the queue of the page running, as under a server."""
    with TestClient(application_of_run[0], base_url=HERE) as found:
        yield found


def asked(visitor, image):
    """What the page gets when it asks for the answer to an image, as its script would."""
    function = next(f["id"] for f in visitor.get("/config").json()["dependencies"] if len(f["inputs"]) == 3)
    join = {"data": [image, 1, 0], "fn_index": function, "session_hash": "visitor"}
    assert visitor.post("/gradio_api/queue/join", json=join).status_code == 200
    with visitor.stream("GET", "/gradio_api/queue/data", params={"session_hash": "visitor"}) as events:
        for line in events.iter_lines():
            event = json.loads(line.removeprefix("data: ") or "{}")
            if event.get("msg") == "process_completed":
                return event
    raise AssertionError("no answer")


def named(path, **words):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}, **words}


def test_a_file_that_was_sent_is_answered(visitor):
    (path,) = visitor.post("/gradio_api/upload", files={"files": ("room.png", photograph())}).json()
    assert asked(visitor, named(path))["success"]


@pytest.mark.parametrize("words", [{}, {"is_stream": True}], ids=["plain", "as a stream"])
def test_another_file_of_this_machine_is_not(visitor, tmp_path, words):
    private = tmp_path / "private.png"
    private.write_bytes(photograph())
    answer = asked(visitor, named(private, **words))
    assert not answer["success"]
    assert "data:image" not in json.dumps(answer)
    assert "not sent here" in json.dumps(answer)


def test_nothing_is_fetched_for_a_visitor(visitor):
    answer = asked(visitor, named("http://example.org/private.png"))
    assert not answer["success"] and "not sent here" in json.dumps(answer)
