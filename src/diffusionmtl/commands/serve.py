"""`diffusionmtl serve`."""

import os
import socket
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import uvicorn
from starlette.types import ASGIApp

from diffusionmtl.build import build_dataset, build_training_set
from diffusionmtl.commands.complete import MANIFEST
from diffusionmtl.commands.output import progress_bar
from diffusionmtl.commands.reviewed_completed import CompletedFolder
from diffusionmtl.commands.reviewed_suggested import SuggestedFolder
from diffusionmtl.commands.sources import find_sources
from diffusionmtl.commands.suggested_files import TASK_LIST
from diffusionmtl.config import DataSettings
from diffusionmtl.errors import UserError
from diffusionmtl.files import write_picture
from diffusionmtl.inference.load import load
from diffusionmtl.inference.predictor import Precision, Predictor
from diffusionmtl.inference.video import is_video
from diffusionmtl.report.examples import spread_images
from diffusionmtl.serve.api import make_api
from diffusionmtl.serve.app import mounted
from diffusionmtl.serve.engine import Engine
from diffusionmtl.serve.guard import LOOPBACK, Guard
from diffusionmtl.serve.limits import Limits
from diffusionmtl.serve.review import Book, Reviewable
from diffusionmtl.serve.service import Service, about_run

EXAMPLES = 4
_REVIEW_SAMPLES = 4
# A form has a little more in it than the file.
_FORM_BYTES = 20_000
_GOODBYE_SECONDS = 3


@dataclass(frozen=True)
class Address:
    """Where the server listens.

    Attributes:
        names: what it may be called by, beside `host` and the names of this machine for itself.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    names: tuple[str, ...] = ()

    @property
    def private(self) -> bool:
        """Nobody but this machine reaches it."""
        return self.host in LOOPBACK

    @property
    def known_names(self) -> frozenset[str] | None:
        """What it answers to; None: to anything, since nobody said what others call it."""
        if not self.private and not self.names:
            return None
        return LOOPBACK | {self.host.lower(), *(name.lower() for name in self.names)}


@dataclass(frozen=True)
class Served:
    """What is served.

    Attributes:
        run: a run folder or a weights file.
        data: where examples come from, and the images of suggestions.
        review: the folder of `complete` or of `suggest`; None: nothing to review.
        examples: image files, folders or globs; empty: a few that the run was scored on, if they are there.
    """

    run: Path
    data: DataSettings
    review: Path | None = None
    examples: tuple[str, ...] = ()


def serve(
    served: Served,
    address: Address | None = None,
    limits: Limits | None = None,
    *,
    checkpoint: str = "last",
    device: str = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Serve the page and the API until Ctrl-C.

    Raises:
        UserError: no run, no folder to review, or the port is taken.
    """
    address, limits = address or Address(), limits or Limits()
    check_free(address)
    predictor = load(served.run, device, checkpoint, precision=precision)
    with tempfile.TemporaryDirectory(prefix="diffusionmtl-") as scratch:
        engine = Engine(limits)
        app = application(served, predictor, engine, Path(scratch), address, limits)
        print(_greeting(address), flush=True)
        if not address.private:
            print(_WARNING, file=sys.stderr, flush=True)
        config = uvicorn.Config(
            app,
            host=address.host,
            port=address.port,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=_GOODBYE_SECONDS,
        )
        try:
            uvicorn.Server(config).run()
        finally:
            engine.close()


def application(
    served: Served, predictor: Predictor, engine: Engine, scratch: Path, address: Address, limits: Limits
) -> ASGIApp:
    """The whole as an ASGI application; files for visitors lie in `scratch`."""
    offline(scratch)
    service = Service(predictor, about_run(served.run), limits, engine)
    folder = None if served.review is None else review_folder(served.review, served.data, predictor, engine)
    book = None
    if folder is not None:
        book = Book(folder, lambda: datetime.now(UTC).isoformat(timespec="seconds"))
        book.catch_up()
    examples = _examples(served, scratch / "examples")
    app = mounted(make_api(service), service, examples, book, scratch)
    return Guard(app, limits.size, address.known_names, _FORM_BYTES)


def offline(scratch: Path) -> None:
    """Tell Gradio, before it makes a page, to keep its files in `scratch` and to call nobody."""
    os.environ["GRADIO_TEMP_DIR"] = str(scratch)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def review_folder(folder: Path, data: DataSettings, predictor: Predictor, engine: Engine) -> Reviewable:
    """What `complete` or `suggest` wrote, whichever it is.

    Raises:
        UserError: neither.
    """
    if (folder / MANIFEST).is_file():
        return CompletedFolder(folder)
    if (folder / TASK_LIST).is_file():
        dataset = build_training_set(data, progress_bar("drawing rooms"))

        def see(image):
            return engine.submit(lambda: predictor(image, _REVIEW_SAMPLES)).future.result()

        return SuggestedFolder(folder, dataset, see)
    raise UserError(
        f"--review {folder}: neither {MANIFEST} nor {TASK_LIST} in it; give the folder that 'diffusionmtl complete' or "
        "'diffusionmtl suggest' wrote"
    )


def check_free(address: Address) -> None:
    """See that the port can be listened on.

    Raises:
        UserError: it cannot.
    """
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
    except OSError as error:
        raise UserError(
            f"--host {address.host} --port {address.port}: {error.strerror or error}; choose another --port, or stop "
            "what listens there"
        ) from None


def _examples(served: Served, folder: Path) -> Sequence[Path]:
    if served.examples:
        return [source.path for source in find_sources(served.examples) if not is_video(source.path)]
    few = replace(served.data, rooms_val=min(EXAMPLES, served.data.rooms_val))
    with suppress(UserError):  # data that is gone
        dataset = build_dataset(few, "val", progress_bar("drawing rooms"))
        chosen = spread_images(dataset, EXAMPLES)
        return list(
            _written([(f"{index:06d}", dataset.image(index).permute(1, 2, 0).numpy()) for index in chosen], folder)
        )
    return []


def _written(pictures: Iterable[tuple[str, np.ndarray]], folder: Path) -> Iterable[Path]:
    for name, pixels in pictures:
        path = folder / f"{name}.png"
        write_picture(path, pixels)
        yield path


_WARNING = (
    "note: anybody who reaches this machine can use the server; it asks for no password and speaks without encryption. "
    "Safer: leave --host alone and use an SSH tunnel, or a reverse proxy with TLS and passwords."
)


def _greeting(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    lines = [f"page: http://{host}:{address.port}/", f"API:  http://{host}:{address.port}/api/openapi.json"]
    if address.private:
        tunnel = f"ssh -L {address.port}:127.0.0.1:{address.port} THIS-MACHINE"
        lines.append(f"Only this machine reaches it. From another one: {tunnel}")
    return "\n".join([*lines, "Ctrl-C stops it."])
