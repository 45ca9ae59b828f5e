"""Images found by URLs, and fetched."""

import functools
import http.server
import threading
from pathlib import Path

import pytest

from diffusionmtl.errors import UserError
from diffusionmtl.scale import urls
from diffusionmtl.scale.urls import fetched, find_urls

fsspec = pytest.importorskip("fsspec")
FILES = ("a.png", "b/c.JPG", "b/clip.mp4", "b/notes.txt", "b/.hidden/d.png", ".e.png", "f.tar.png")


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    for name in FILES:
        system.pipe(f"/shop/{name}", name.encode())
    yield system
    system.rm("/shop", recursive=True)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in FILES:
        (tmp_path / "shop" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shop" / name).write_bytes(name.encode())
    return tmp_path / "shop"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(folder):
    pytest.importorskip("aiohttp")
    handler = functools.partial(Quiet, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def names(given: str) -> list[str]:
    return [name for _, name in find_urls(given)]


def test_names_are_those_below_what_was_given(memory, folder):
    for root in ("memory://shop", "memory://shop/", f"file://{folder}"):
        assert names(root) == ["a", "b/c", "b/clip", "f.tar"]
        assert names(f"{root.rstrip('/')}/b/c.JPG") == ["c"]
        assert names(f"{root.rstrip('/')}/*/*") == ["b/c", "b/clip"]
    for url, _ in find_urls("memory://shop"):
        assert fsspec.open(url).open().read().decode() in FILES


def test_web_server(served):
    assert names(f"{served}/shop/") == ["a", "b/c", "b/clip", "f.tar"]
    assert names(f"{served}/shop/b/c.JPG") == ["c"]
    (url,) = (url for url, name in find_urls(f"{served}/shop/") if name == "b/c")
    with fetched(url) as path:
        assert path.read_bytes() == b"b/c.JPG" and path.suffix == ".JPG"
    assert not path.exists()
    with pytest.raises(UserError, match=r"/shop/no\.png: no such file"), fetched(f"{served}/shop/no.png"):
        pass


def test_names_that_lead_out_of_a_folder_are_refused(monkeypatch):
    for name in ("../x.png", "b/../../x.png", "b//x.png", "b\\x.png", "b\n/x.png"):
        monkeypatch.setattr(urls, "_listed", lambda *_, name=name: ("/shop", [f"/shop/{name}"]))
        with pytest.raises(UserError, match="rename it there"):
            find_urls("memory://shop")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("memory://nothing", "no image there"),
        ("memory://nothing/a.png", "no image there"),
        ("memory://shop/b/notes.txt", "no image there"),
        ("nonsense://shop", "cannot be listed"),
        ("http://127.0.0.1:9/shop/", "127.0.0.1:9"),
    ],
)
def test_what_cannot_be_found(memory, given, said):
    with pytest.raises(UserError, match=said) as caught:
        find_urls(given)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(given)


def test_a_store_that_fails_is_asked_again(memory, monkeypatch):
    usual, asked = urls._fetch, []

    def shaky(url, path):
        asked.append(url)
        if len(asked) < 3:
            path.write_bytes(b"half")
            raise ConnectionResetError("reset by peer")
        usual(url, path)

    monkeypatch.setattr(urls, "_fetch", shaky)
    with fetched("memory://shop/a.png", pause=0.0) as path:
        assert path.read_bytes() == b"a.png"
    with pytest.raises(UserError, match=r"^memory://shop/a\.png: is odd$"), fetched("memory://shop/a.png") as path:
        raise UserError(f"{path}: is odd")
    asked.clear()
    with pytest.raises(UserError, match="reset by peer.*tried 2 times"), fetched("memory://a.png", tries=2, pause=0.0):
        pass
