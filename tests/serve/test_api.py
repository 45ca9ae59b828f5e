import base64
import io
import json
import threading
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from diffusionmtl.serve import api
from diffusionmtl.serve.limits import Refused
from tests.serve.conftest import LIMITS, photograph

TASKS = {"semseg", "depth", "normals", "edge", "saliency", "human_parts"}

FORM = "send a form with the picture as a file in the field image"
IMAGE = ("image", ("photo.png", photograph()))
UNKNOWN = "no such name; the query takes samples, seed, steps and format"


def send(client, data=None, name="photo.png", **query):
    return client.post("/api/predict", files={"image": (name, data or photograph())}, params=query)


def picture(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_health_and_run_describe_the_server(client):
    assert client.get("/api/health").json() == {"status": "ok", "inside": 0, "waiting_limit": 3}
    about = client.get("/api/run").json()
    assert {task["name"] for task in about["tasks"]} == TASKS
    assert about["limits"]["pixels"] == LIMITS.pixels and about["refines"]
    assert about["tables"][0]["caption"] == "Labels that training saw"
    assert any("evaluate" in note for note in about["notes"])


def test_an_answer_is_that_of_the_predictor(client, predictor):
    said = send(client, samples=2, seed=7).json()
    expected = predictor(np.asarray(Image.open(io.BytesIO(photograph()))), 2, 7)
    assert (said["height"], said["width"], said["samples"], said["seed"]) == (40, 60, 2, 7)
    assert set(said["tasks"]) == TASKS
    depth = said["tasks"]["depth"]
    assert depth["file_name"] == "depth/photo.npy"
    value = np.load(io.BytesIO(base64.b64decode(depth["file"])), allow_pickle=False)
    np.testing.assert_array_equal(value, expected["depth"].to_numpy())
    assert depth["uncertainty_mean"] == pytest.approx(float(expected["depth"].uncertainty.mean()))
    np.testing.assert_array_equal(picture(depth["picture"]), np.asarray(expected["depth"].draw()))
    assert not depth["stages"]


def test_a_single_sample_has_no_uncertainty_and_steps_have_pictures(client, predictor):
    said = send(client, samples=1, steps=True).json()["tasks"]["semseg"]
    assert said["uncertainty"] is None and said["uncertainty_mean"] is None
    steps = len(predictor.steps(np.zeros((8, 8, 3), np.uint8)))
    assert list(said["stages"]) == ["initial", *(f"step {k}" for k in range(1, steps + 1))]


def test_the_zip_holds_values_pictures_and_what_they_mean(client):
    answer = send(client, name="../../etc/my photo.png", samples=2, format="zip")
    assert answer.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    names = set(archive.namelist())
    assert {"about.json", "dataset.yaml", "depth/my-photo.npy", "uncertainty/depth/my-photo.npy"} <= names
    assert "pictures/my-photo.png" in names and "steps/semseg/initial.png" in names
    assert json.loads(archive.read("about.json"))["tasks"]["depth"]["unit"] == "m"


def test_the_same_seed_gives_the_same_bytes(client):
    first, again = (send(client, samples=2, seed=3).json()["tasks"] for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"Dear all,\nthis is a letter.\n", 415, "not a readable image"),
        (photograph()[:100], 415, "not a readable image"),
        (b"", 415, "not a readable image"),
        (photograph(500, 500, "jpeg"), 413, "500x500 pixels (height x width), the limit is 200,000"),
        (bytes(400_000), 413, "more than 0.3 MB, the limit of this server (--max-mb)"),
    ],
    ids=["text", "truncated", "empty", "too many pixels", "too many bytes"],
)
def test_what_is_no_fit_image_is_refused_in_words(client, data, status, words):
    answer = client.post("/api/predict", files={"image": ("photo.jpg", data)})
    assert answer.status_code == status and words in answer.json()["detail"]
    assert "/tmp" not in answer.text
    assert client.get("/api/health").json()["inside"] == 0


def test_a_decompression_bomb_is_not_decoded(client):
    """A header that promises 3.6 billion pixels."""
    bomb = bytearray(photograph())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    answer = send(client, bytes(bomb))
    assert answer.status_code in (413, 415)
    assert send(client).status_code == 200


def test_a_webp_is_measured_before_its_decoder_makes_room_for_it(client, monkeypatch):
    claims = b"RIFF\x1e\x00\x00\x00WEBPVP8L\x11\x00\x00\x00\x2f" + (0x3FFF | 0x3FFF << 14).to_bytes(4, "little")
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("opened"))
    answer = send(client, claims + bytes(30))
    assert answer.status_code == 413 and "pixels" in answer.json()["detail"]


@pytest.mark.parametrize("query", [{"samples": 0}, {"samples": 5}, {"seed": -1}, {"format": "exe"}, {"seed": 2**60}])
def test_queries_out_of_range_are_422(client, query):
    assert send(client, **query).status_code == 422


@pytest.mark.parametrize(
    ("query", "files", "detail"),
    [
        ("samples=0", [IMAGE], "samples must be from 1 to 4"),
        ("samples=many", [IMAGE], "samples must be from 1 to 4"),
        ("seed=-1&steps=maybe", [IMAGE], f"seed must be from 0 to {api.LARGEST_SEED}; steps must be true or false"),
        ("format=exe", [IMAGE], "format must be json or zip"),
        ("", [], FORM),
        ("", [("img", IMAGE[1])], f"{FORM}, not in img"),
        ("", [("image", (None, b"my text"))], FORM),
        ("", [IMAGE, IMAGE], "image is there 2 times; send one picture a request"),
        ("", [IMAGE, ("mask", IMAGE[1])], "mask: no such name; the form takes image."),
        ("sample=2", [IMAGE], f"sample: {UNKNOWN}. Did you mean 'samples'?"),
        ("samples=1&samples=2", [IMAGE], "samples is there 2 times; send one of them"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line(client, query, files, detail):
    answer = client.post(f"/api/predict?{query}", files=files)
    assert (answer.status_code, answer.json()) == (422, {"detail": detail})


def test_a_body_that_is_no_form_is_told_in_one_line(client):
    answer = client.post("/api/predict", content=b"x", headers={"content-type": "multipart/form-data"})
    assert answer.status_code == 400 and FORM in answer.json()["detail"]


def test_an_upload_without_length_is_stopped_while_it_comes(client):
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    chunks = iter([head, *[bytes(100_000)] * 10])
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/api/predict", content=chunks, headers=headers)
    assert answer.status_code == 413 and "MB" in answer.json()["detail"]


def test_of_many_at_once_those_who_do_not_fit_are_told_to_come_again(client, predictor, monkeypatch):
    go = threading.Event()
    predict = type(predictor).__call__

    def slow(self, *args, **words):
        assert go.wait(30)
        return predict(self, *args, **words)

    monkeypatch.setattr(type(predictor), "__call__", slow)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(send(client, samples=1))) for _ in range(20)]
    for thread in threads:
        thread.start()
    while len(answers) < 20 - 1 - LIMITS.waiting:
        time.sleep(0.02)
    go.set()
    for thread in threads:
        thread.join()
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] * (1 + LIMITS.waiting) + [503] * (19 - LIMITS.waiting)
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert int(busy.headers["retry-after"]) > 0 and "try again" in busy.json()["detail"]
    assert client.get("/api/health").json()["inside"] == 0


def test_a_mistake_of_ours_is_500_and_the_next_request_is_answered(client, predictor, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(type(predictor), "__call__", lambda *args, **words: 1 / 0)
        answer = send(client)
        assert answer.status_code == 500 and "mistake of the server" in answer.json()["detail"]
    assert send(client).status_code == 200


def test_whoever_has_gone_is_not_waited_for():
    class Gone:
        async def is_disconnected(self):
            return True

    class Ticket:
        future = type("Never", (), {"done": lambda self: False})()
        stopped = False

        def stop(self):
            self.stopped = True

    import asyncio

    ticket = Ticket()
    with pytest.raises(Refused, match="given up"):
        asyncio.run(api._waited(ticket, Gone()))
    assert ticket.stopped


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"host": "127.0.0.1.evil.example"},
    ],
)
def test_pages_of_strangers_are_refused(client, headers):
    answer = client.post("/api/predict", files={"image": ("a.png", photograph())}, headers=headers)
    assert answer.status_code == 403


def test_a_page_of_ours_is_not(client):
    assert client.get("/api/health", headers={"origin": "https://elsewhere.example"}).status_code == 200
    headers = {"host": "localhost:7860", "origin": "http://localhost:7860"}
    assert client.post("/api/predict", files={"image": ("a.png", photograph())}, headers=headers).status_code == 200


def test_everything_is_described(client):
    described = client.get("/api/openapi.json").json()
    assert set(described["paths"]) == {"/api/health", "/api/run", "/api/predict"}
    predict = described["paths"]["/api/predict"]["post"]
    assert {"200", "413", "415", "422", "503", "504"} <= set(predict["responses"])
    for status in set(predict["responses"]) - {"200"}:
        form = predict["responses"][status]["content"]["application/json"]["schema"]
        assert form == {"$ref": "#/components/schemas/Problem"}, status
    assert "HTTPValidationError" not in described["components"]["schemas"]
    assert set(predict["responses"]["200"]["content"]) == {"application/json", "application/zip"}


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'self' data: blob:;")
    assert 'src="http' not in page.text and "fonts.googleapis" not in page.text


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/api/predicts", 404, "/api/predicts: no such address; there are GET /api/openapi.json"),
        ("POST", "/api/predict/", 404, "Did you mean '/api/predict'?"),
        ("GET", "/api/", 404, "POST /api/predict"),
        ("PUT", "/api", 404, "no such address"),
        ("GET", "/api/info", 404, "no such address"),
        ("GET", "/api/predict", 405, "/api/predict takes POST, not GET"),
        ("DELETE", "/api/run", 405, "/api/run takes GET, not DELETE"),
        ("PROPFIND", "/api/health", 405, "/api/health takes GET, not PROPFIND"),
        ("POST", "/api/openapi.json", 405, "takes GET or HEAD, not POST"),
    ],
)
def test_addresses_and_methods_that_are_not_there(client, method, path, status, words):
    answer = client.request(method, path)
    assert answer.status_code == status and list(answer.json()) == ["detail"]
    detail = answer.json()["detail"]
    assert words in detail and "\n" not in detail
    assert answer.headers["content-type"] == "application/json"
    if status == 405:
        assert answer.headers["allow"] in ("GET", "POST", "GET, HEAD")


def test_the_page_keeps_its_own_addresses(client):
    assert "text/html" in client.get("/").headers["content-type"]
    assert client.get("/config").json()["components"]
    assert client.get("/nowhere").status_code == 404
