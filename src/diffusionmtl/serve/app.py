"""The page: Gradio around the same queue that programs stand in."""

import inspect
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import wait
from html import escape
from importlib.resources import files as resources
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr
from fastapi import FastAPI
from gradio.themes import Default

from diffusionmtl.serve.answer import Answer, Asked, as_zip
from diffusionmtl.serve.api import LARGEST_SEED
from diffusionmtl.serve.engine import Ticket
from diffusionmtl.serve.limits import Refused
from diffusionmtl.serve.markup import EMPTY, answer_html, paragraphs, table_html
from diffusionmtl.serve.review import Book
from diffusionmtl.serve.review_tab import add_review
from diffusionmtl.serve.service import Service

_POLL = 0.2
_MOVE = "async_move_resource_to_block_cache"
# The camera at the back of a phone, and fewer pixels than it has: an answer shall not take a minute.
_CAMERA = {"video": {"facingMode": {"ideal": "environment"}, "width": {"ideal": 1280}, "height": {"ideal": 960}}}
# Uploads and zips are kept for an hour, in a folder that goes when the server does.
_SWEPT = (600, 3600)


class Visitors:
    """Who waits for what, so that a closed tab ends its work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets: dict[str, set[Ticket[Any]]] = defaultdict(set)

    def came(self, session: str, ticket: Ticket[Any]) -> None:
        """A session waits for a ticket."""
        with self._lock:
            self._tickets[session].add(ticket)

    def got(self, session: str, ticket: Ticket[Any]) -> None:
        """It waits no longer."""
        ticket.stop()
        with self._lock:
            self._tickets[session].discard(ticket)
            if not self._tickets[session]:
                del self._tickets[session]

    def left(self, session: str) -> None:
        """The tab was closed."""
        with self._lock:
            for ticket in self._tickets.pop(session, set()):
                ticket.stop()


def mounted(api: FastAPI, service: Service, examples: Sequence[Path], book: Book | None, scratch: Path) -> FastAPI:
    """The API with the page in front of it.

    Args:
        examples: image files to try.
        book: of the labels to review; no such tab if None.
        scratch: where files for visitors may lie; Gradio must have been told of it (`GRADIO_TEMP_DIR`).
    """
    page = _page(service, examples, book, scratch)
    _guard_files(page, scratch)
    room = resources("diffusionmtl.serve")
    script = room.joinpath("page.js").read_text("utf-8")
    fonts = ["system-ui", "sans-serif"]
    return gr.mount_gradio_app(
        api,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        max_file_size=service.limits.size,
        # Names of fonts that are there already: others would be fetched.
        theme=Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
        css=room.joinpath("page.css").read_text("utf-8"),
        head=f"<script>{script}</script>",
    )


def _page(service: Service, examples: Sequence[Path], book: Book | None, scratch: Path) -> gr.Blocks:
    visitors = Visitors()
    name = service.about.name
    with gr.Blocks(title=f"{name} – diffusionmtl", analytics_enabled=False, delete_cache=_SWEPT) as page:
        gr.Markdown(f"# {escape(name)}\n{escape(', '.join(task.name for task in service.predictor.tasks))}")
        with gr.Tab("Predict"):
            _add_predict(service, examples, visitors, scratch)
        with gr.Tab("Labels and scores"):
            gr.HTML(_scores(service))
        if book is not None:
            with gr.Tab("Review"):
                add_review(page, book)
        page.unload(_leaving(visitors))
    page.queue(max_size=4 * (service.limits.waiting + 1), default_concurrency_limit=service.limits.waiting + 1)
    return page


def _guard_files(page: gr.Blocks, scratch: Path) -> None:
    """Let Gradio take nothing but what was sent here.

    A request may name any file of this machine and any address, and Gradio asks whether a file was sent here only where
    it starts the server itself.
    """
    for block in page.blocks.values():
        if hasattr(block, _MOVE):
            setattr(block, _MOVE, _moving_sent(getattr(block, _MOVE), scratch))


def _moving_sent(move: Callable[[Any], Awaitable[Any]], scratch: Path) -> Callable[[Any], Awaitable[Any]]:
    async def moving(path: Any) -> Any:
        return await move(None if path is None else _sent(str(path), scratch))

    return moving


def _sent(path: str, scratch: Path) -> str:
    if not Path(path).resolve().is_relative_to(scratch.resolve()):
        raise gr.Error("this file was not sent here; drop it on the page", print_exception=False)
    return path


def _scores(service: Service) -> str:
    tables = "".join(table_html(table) for table in service.about.tables)
    return (
        tables or paragraphs(["A weights file says nothing of labels and scores; serve the run folder."])
    ) + paragraphs(service.about.notes)


def _add_predict(service: Service, examples: Sequence[Path], visitors: Visitors, scratch: Path) -> None:
    limits = service.limits
    refines = service.predictor.network.refiner is not None
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            image = gr.Image(
                label="Image", type="filepath", image_mode=None, sources=["upload", "webcam", "clipboard"], height=300,
                webcam_options=gr.WebcamOptions(mirror=False, constraints=_CAMERA),
            )  # fmt: skip
            # Gradio would decode the file, whatever it is, before we can look at its size.
            image.preprocess = lambda payload: None if payload is None else _sent(payload.path or "", scratch)
        with gr.Column(scale=1, min_width=260):
            samples = gr.Slider(
                1, limits.samples, value=min(4, limits.samples), step=1, label="Samples", visible=refines,
                info="more than one show where the answer is unsure",
            )  # fmt: skip
            seed = gr.Number(value=0, precision=0, minimum=0, maximum=LARGEST_SEED, label="Seed", visible=refines)
            again = gr.Button("Predict", variant="primary", elem_id="dm-predict")
            status = gr.Markdown("", elem_id="dm-status")
            zipped = gr.DownloadButton("Download everything (zip)", visible=False, elem_id="dm-zip")
    if examples:
        gr.Examples([str(path) for path in examples], inputs=image, label="Examples", cache_examples=False)
    shown = gr.HTML(EMPTY, elem_id="dm-answer")
    gr.on(
        [image.change, again.click],
        _predicting(service, visitors, scratch),
        inputs=[image, samples, seed],
        outputs=[shown, status, zipped],
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )


def _predicting(service: Service, visitors: Visitors, scratch: Path) -> Callable[..., Iterator[Any]]:
    def predict(path: str | None, samples: int | float, seed: int | float | None, request: gr.Request) -> Iterator[Any]:
        if path is None:
            yield _nothing("")
            return
        session = str(request.session_hash)
        try:
            ticket = service.ask(Path(path), Path(path).name, _asked(service, samples, seed))
            visitors.came(session, ticket)
            try:
                for words in _progress(service, ticket):
                    yield gr.skip(), words, gr.skip()
                found = ticket.future.result()
            finally:
                visitors.got(session, ticket)
        except Refused as refused:
            yield _nothing(f"**{escape(str(refused))}**")
            # The message is shown as HTML, and may quote the name of a file.
            raise gr.Error(escape(str(refused)), print_exception=False) from None
        yield _shown(found, service.about.name, scratch)

    # Gradio asks the function itself whether it yields; a wrapper that checks types would not say so.
    return inspect.unwrap(predict)


def _asked(service: Service, samples: int | float, seed: int | float | None) -> Asked:
    if not 1 <= samples <= service.limits.samples:
        raise Refused(422, f"samples: from 1 to {service.limits.samples}")
    if seed is None or not 0 <= seed <= LARGEST_SEED:
        raise Refused(422, f"seed: a whole number from 0 to {LARGEST_SEED}")
    return Asked(int(samples), int(seed), steps=service.predictor.network.refiner is not None)


def _progress(service: Service, ticket: Ticket[Answer]) -> Iterator[str]:
    """What is going on, whenever that changes, until the answer is there."""
    said, begun = "", time.monotonic()
    while not ticket.future.done():
        before = service.engine.inside - 1
        seconds = int(time.monotonic() - begun)
        words = "predicting" if ticket.started.is_set() else f"waiting, up to {before} before you"
        # Who waits for long wants to see that it goes on, and when it will end at the latest.
        words += f" … {seconds} s; given up after {service.limits.seconds:g} s" if seconds >= 3 else " …"
        if words != said:
            said = words
            yield words
        wait([ticket.future], timeout=_POLL)


def _nothing(status: str) -> tuple[str, str, Any]:
    return EMPTY, status, gr.DownloadButton(value=None, visible=False)


def _shown(found: Answer, run: str, scratch: Path) -> tuple[str, str, Any]:
    height, width = found.prediction.image.shape[-2:]
    draws = "one sample" if found.asked.samples == 1 else f"{found.asked.samples} samples"
    words = f"{height} × {width} pixels (height × width), {draws}, seed {found.asked.seed}: {found.seconds:.1f} s"
    file = scratch / uuid4().hex / f"{found.name}.zip"
    file.parent.mkdir(parents=True)
    file.write_bytes(as_zip(found, run))
    return answer_html(found), words, gr.DownloadButton(value=str(file), visible=True)


def _leaving(visitors: Visitors) -> Callable[..., None]:
    def leave(request: gr.Request) -> None:
        visitors.left(str(request.session_hash))

    return leave
