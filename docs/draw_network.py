"""The figure of the network, drawn from a network: its shapes are what an image of the default size leaves behind."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from diffusionmtl.build import build_network
from diffusionmtl.config import Settings
from diffusionmtl.data.rooms.dataset import rooms_tasks
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.models.cost import network_cost
from diffusionmtl.models.network import Network

TARGET = Path(__file__).parent / "images" / "network.svg"
WIDTH, MARGIN, LEFT, GAP, ROW, BOX = 880, 16, 52, 10, 84, 50
PLAIN, SHARED, SIGNAL, LOSS = "#eef1f5", "#dbe7f6", "#f7e6d4", "#e3f0dd"
LEGEND = {
    PLAIN: "shared by all tasks",
    SIGNAL: "one per task",
    SHARED: "condition and denoiser",
    LOSS: "meets the labels",
}


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and a line below it."""

    x: float
    y: float
    width: float
    title: str
    text: str
    fill: str

    def svg(self) -> str:
        """As SVG."""
        middle = self.x + self.width / 2
        return (
            f'<rect x="{self.x:g}" y="{self.y:g}" width="{self.width:g}" height="{BOX}" rx="6" fill="{self.fill}" '
            f'stroke="#667"/>'
            f'<text x="{middle:g}" y="{self.y + 21:g}" font-weight="600">{escape(self.title)}</text>'
            f'<text x="{middle:g}" y="{self.y + 39:g}" font-size="11.5">{escape(self.text)}</text>'
        )


@dataclass
class Seen:
    """What an image leaves behind in a network, without the dimension of the batch."""

    network: Network
    size: tuple[int, int]
    pyramid: list[tuple[int, ...]] = field(default_factory=list)
    features: dict[str, tuple[int, ...]] = field(default_factory=dict)
    initial: dict[str, tuple[int, ...]] = field(default_factory=dict)
    final: dict[str, tuple[int, ...]] = field(default_factory=dict)
    condition: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    full: dict[str, tuple[int, ...]] = field(default_factory=dict)


def look(settings: Settings) -> Seen:
    """Send one grey image through a fresh network and note every shape on the way."""
    network = build_network(rooms_tasks(), settings.network).eval()
    seen = Seen(network, settings.data.size)
    refiner = network.refiner
    assert refiner is not None and refiner.condition is not None
    hooks = [
        network.initial.backbone.register_forward_hook(lambda _, __, maps: seen.pyramid.extend(map(_shape, maps))),
        refiner.condition.register_forward_hook(lambda _, __, x: setattr(seen, "condition", _shape(x))),
        refiner.denoiser.blocks[0].register_forward_hook(
            lambda _, given, __: setattr(seen, "tokens", _shape(given[0]))
        ),
    ]
    with torch.no_grad():
        image = torch.full((1, 3, *settings.data.size), 128, dtype=torch.uint8)
        initial = network.initial(image)
        output = network.finish(initial, SeededNoise(0, (0,)))
    for hook in hooks:
        hook.remove()
    seen.features = {task: _shape(x) for task, x in initial.features.items()}
    seen.initial = {task: _shape(x) for task, x in output.initial.items()}
    seen.final = {task: _shape(x) for task, x in output.final.items()}
    seen.full = {task: _shape(output.canvas.to_image(x)) for task, x in output.final.items()}
    return seen


def network_svg(settings: Settings | None = None) -> str:
    """The figure for a setting that refines."""
    settings = settings or Settings()
    seen = look(settings)
    rows = list(_rows(seen, settings))
    boxes = [box for row in rows for box in row]
    height = max(box.y for box in boxes) + BOX + 34
    lines = "".join(_arrows(rows))
    legend = "".join(
        f'<rect x="{MARGIN + 205 * i}" y="{height - 22:g}" width="14" height="14" fill="{colour}" stroke="#667"/>'
        f'<text x="{MARGIN + 205 * i + 20}" y="{height - 11:g}" text-anchor="start" font-size="12">{text}</text>'
        for i, (colour, text) in enumerate(LEGEND.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" font-family="sans-serif" '
        f'font-size="13" text-anchor="middle" role="img" aria-label="The network and the shapes in it">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#667"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{height:g}" fill="white"/>{lines}'
        f"{_signal(rows, settings)}{''.join(box.svg() for box in boxes)}{legend}</svg>\n"
    )


def _rows(seen: Seen, settings: Settings) -> Iterable[list[Box]]:
    cost = {part.name: part.parameters for part in network_cost(seen.network, seen.size).parts}

    def million(*parts: str) -> str:
        return f"{sum(cost.get(part, 0) for part in parts) / 1e6:.2f} M parameters"

    net, tasks = settings.network, list(seen.initial)
    pyramid = ", ".join(map(_said, seen.pyramid))
    yield [_wide(0, "image", _said((3, *seen.size)), PLAIN)]
    yield [_wide(1, f"backbone {net.backbone}", f"{pyramid} · {million('backbone')}", PLAIN)]
    yield [_wide(2, "fusion", f"{_said(seen.condition)} · {million('fusion')}", PLAIN)]
    yield _columns(3, [("decoder", _said(seen.features[t])) for t in tasks], SIGNAL)
    yield _columns(4, [(t, f"initial {_said(seen.initial[t])}") for t in tasks], LOSS)
    yield [
        _wide(5, "condition, of all initial predictions", f"{_said(seen.condition)} · {million('condition')}", SHARED)
    ]
    signal = seen.features if net.method == "feature" else {}
    asked = f"signals {_said(next(iter(signal.values())))}" if signal else "signals like the predictions"
    tokens = f"{asked}, {seen.tokens[0]} tokens of {seen.tokens[1]}, {net.blocks} blocks"
    parts = million("signal embedding", "step embedding", "transformer", "refinement heads", "signal projection")
    yield [_wide(6, f"denoiser, {net.steps} steps, for each asked (image, task) pair", f"{tokens} · {parts}", SHARED)]
    yield _columns(7, [(t, f"refined {_said(seen.final[t])}") for t in tasks], SIGNAL)
    yield _columns(8, [(t, _said(seen.full[t])) for t in tasks], LOSS)


def _arrows(rows: list[list[Box]]) -> Iterable[str]:
    for above, below in pairwise(rows):
        pairs = zip(above, below, strict=True) if len(above) == len(below) else ((a, b) for a in above for b in below)
        for a, b in pairs:
            x1, x2 = a.x + a.width / 2, b.x + b.width / 2
            # A box that spans many sends its arrows down straight.
            x1, x2 = (x2, x2) if a.width > b.width else (x1, x1) if b.width > a.width else (x1, x2)
            yield f'<path d="M{x1:g} {a.y + BOX:g}L{x2:g} {b.y - 1:g}" stroke="#667" marker-end="url(#tip)"/>'


def _signal(rows: list[list[Box]], settings: Settings) -> str:
    """The way of the signal, past the condition: from the decoders, or from the initial predictions."""
    start, end = rows[3 if settings.network.method == "feature" else 4][0], rows[6][0]
    high, low, x = start.y + BOX / 2, end.y + BOX / 2, LEFT / 2
    return (
        f'<path d="M{start.x:g} {high:g}H{x:g}V{low:g}H{end.x - 1:g}" fill="none" stroke="#667" '
        f'marker-end="url(#tip)"/>'
        f'<text transform="translate({x - 7:g} {(high + low) / 2:g}) rotate(-90)" font-size="12">signal, noised</text>'
    )


def _wide(row: int, title: str, text: str, fill: str) -> Box:
    return Box(LEFT, MARGIN + row * ROW, WIDTH - LEFT - MARGIN, title, text, fill)


def _columns(row: int, texts: list[tuple[str, str]], fill: str) -> list[Box]:
    width = (WIDTH - LEFT - MARGIN - GAP * (len(texts) - 1)) / len(texts)
    return [
        Box(LEFT + i * (width + GAP), MARGIN + row * ROW, width, title, text, fill)
        for i, (title, text) in enumerate(texts)
    ]


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape[1:])


def _said(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def main(folder: Path | None = None) -> None:
    """Write `network.svg`, into `docs/images` if no folder is given."""
    target = TARGET if folder is None else folder / TARGET.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(network_svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
