"""A tiny run, served in this process or as a server of its own."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the extra `demo` is not installed")

import uvicorn
from starlette.testclient import TestClient

from diffusionmtl.commands.serve import Address, Served, application
from diffusionmtl.inference.load import load, settings_of_run
from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.serve.engine import Engine
from diffusionmtl.serve.limits import Limits

LIMITS = Limits(size=300_000, pixels=200_000, samples=4, seconds=60.0, waiting=3)
HERE = "http://127.0.0.1:7860"


def photograph(height: int = 40, width: int = 60, kind: str = "png") -> bytes:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind)
    return stream.getvalue()


@pytest.fixture(scope="package")
def predictor(tiny_run: Path) -> Predictor:
    return load(tiny_run)


@contextmanager
def served(
    predictor: Predictor, run: Path, scratch: Path, limits: Limits = LIMITS, review: Path | None = None
) -> Iterator:
    """The application, as `diffusionmtl serve` makes it, and its queue."""
    picture = scratch / "example.png"
    picture.write_bytes(photograph(48, 64))
    engine = Engine(limits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(scratch))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        what = Served(run, settings_of_run(run).data, review=review, examples=(str(picture),))
        try:
            yield application(what, predictor, engine, scratch, Address(), limits), engine
        finally:
            engine.close()


@pytest.fixture(scope="package")
def application_of_run(predictor: Predictor, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    with served(predictor, tiny_run, tmp_path_factory.mktemp("serve")) as found:
        yield found


@pytest.fixture
def client(application_of_run) -> TestClient:
    """Speaks to the application without a network."""
    return TestClient(application_of_run[0], base_url=HERE, raise_server_exceptions=False)


@contextmanager
def listening(app) -> Iterator[str]:
    """A real server on a free port; its address."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
