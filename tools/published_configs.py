"""Writes `configs/{pascal,nyud,cityscapes}/{one,random}/*.yaml`: the published settings, as far as they are known.

    python tools/published_configs.py

A test asks whether the files still say what this program writes.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LABELS = ("one", "random")

Line = tuple[str, object, str]
"""A setting, its value, and where the value comes from."""

SOURCES = {
    "code": "the released code of DiffusionMTL and its configuration, which are Feature Diffusion on PASCAL-Context",
    "paper": "tables and figures of the paper (CVPR 2024)",
    "mtpsl": "the released code of MTPSL (XTC, CVPR 2022), for the same data",
    "hitts": "the released code of HiTTs (ACM MM 2025), for the same data",
    "derived": "follows from published sizes: with it, parameters and multiply-adds are those in print",
    "ours": "our choice, because the paper is silent",
}
NOT_RELEASED = "Code of this method was not released with it; that it shares these values is our reading."


@dataclass(frozen=True)
class Benchmark:
    """What differs from one benchmark to the next."""

    folder: str
    title: str
    tasks: tuple[str, ...]
    data: tuple[Line, ...]
    weights: tuple[dict[str, float], str]
    schedule: str
    partitions: dict[str, str]
    note: str = ""
    xtc_weight: tuple[float, str] = (1.0, "ours: not published for these tasks")


PASCAL = Benchmark(
    folder="pascal",
    title="PASCAL-Context",
    tasks=("semseg", "human_parts", "sal", "normals", "edge"),
    data=(
        ("data", ["pascal-context"], "say where it is with --root"),
        ("size", [512, 512], "code"),
        ("fit", False, "code: pictures keep their resolution, crops and padding make the size"),
        ("scale", [0.5, 2.0], "code"),
        ("flip", 0.5, "code"),
        ("photometric", True, "code"),
        ("crop_by", "semseg", "code; where its label may be seen, or anywhere with --reproduce"),
        ("max_class_share", 0.75, "code"),
    ),
    weights=({"semseg": 1.0, "human_parts": 2.0, "sal": 5.0, "normals": 10.0, "edge": 50.0}, "code"),
    schedule="code",
    partitions={"one": "onelabel.npy", "random": "randomlabels.npy"},
)
NYUD = Benchmark(
    folder="nyud",
    title="NYUD-v2 (13 classes)",
    tasks=("semseg", "depth", "normals"),
    data=(
        ("data", ["nyud"], "say where it is with --root; the arrays of MTAN"),
        ("size", [288, 384], "hitts; that of the arrays"),
        ("fit", False, "hitts"),
        ("scale", [0.5, 2.0], "hitts; mtpsl draws from 1, 1.2 and 1.5"),
        ("flip", 0.5, "hitts; mtpsl does not flip here"),
        ("photometric", True, "hitts"),
        ("crop_by", "semseg", "hitts; where its label may be seen, or anywhere with --reproduce"),
        ("max_class_share", 0.75, "hitts"),
    ),
    weights=({"semseg": 1.0, "depth": 1.0, "normals": 10.0}, "ours: as on PASCAL-Context, where normals have 10"),
    schedule="ours: as on PASCAL-Context and in hitts",
    partitions={"one": "onelabel.pth", "random": "randomlabels.pth"},
    xtc_weight=(2.0, "mtpsl"),
)
CITYSCAPES = Benchmark(
    folder="cityscapes",
    title="Cityscapes (7 classes)",
    tasks=("semseg", "depth"),
    data=(
        ("data", ["cityscapes"], "say where it is with --root; the arrays of MTAN, in which depth is disparity"),
        ("size", [128, 256], "mtpsl; what DiffusionMTL was trained at is unknown, its cost fits 512 x 1024"),
        ("fit", False, "mtpsl"),
        ("scale", [1.0, 1.5], "ours: the range of 1, 1.2 and 1.5, from which mtpsl draws"),
        ("flip", 0.5, "mtpsl; its multi-task baseline alone does without"),
        ("photometric", False, "mtpsl"),
        ("crop_by", "", "mtpsl: any crop is taken"),
    ),
    weights=({"semseg": 1.0, "depth": 1.0}, "ours"),
    schedule="ours: as on PASCAL-Context",
    partitions={"one": "onelabel.pth", "random": "onelabel.pth"},
    note="With two tasks a random set that is not all of them is one task: one-label and random-label are the same.",
    xtc_weight=(1.0, "mtpsl"),
)
BENCHMARKS = (PASCAL, NYUD, CITYSCAPES)

METHODS = {
    "multitask": "The multi-task baseline",
    "xtc": "The multi-task baseline with cross-task consistency (XTC)",
    "prediction": "DiffusionMTL with Prediction Diffusion",
    "feature": "DiffusionMTL with Feature Diffusion",
}
HITTS_WEIGHTS = ({"semseg": 1.0, "depth": 0.6, "normals": 1.0}, "hitts")


def network_lines(method: str) -> list[Line]:
    """Settings of the network."""
    lines: list[Line] = [
        ("method", method, "see the top"),
        ("backbone", "resnet18", "paper"),
        ("pretrained", True, "code: ImageNet; which release of the weights is unknown. Offline: --backbone-weights"),
        ("width", 512, "code"),
        ("grid_stride", 8, "code"),
        # 0 and not the number: `compare` trains other methods by this file, each with its own.
        ("decoder_blocks", 0, decoder_source(method)),
    ]
    if method not in ("feature", "prediction"):
        return lines
    return [
        *lines,
        ("hidden", 512, "code"),
        ("token_stride", 4, "code"),
        ("blocks", 4, "code"),
        ("attention_heads", 4, "code"),
        ("steps", 2, "code; paper, figure 6"),
        ("noise_start", 1.0e-3, "code"),
        ("noise_end", 1.0e-2, "code"),
        ("condition", "predictions", "code; a figure of the paper draws features"),
        ("form", "published", "code; --form correction is ours"),
        *([("signal_scale", 1.0, "ours: how the signal is scaled is unknown")] if method == "prediction" else []),
    ]


def decoder_source(method: str) -> str:
    """Why there are so many residual blocks per initial decoder."""
    if method in ("feature", "prediction"):
        return "2 in this form: code"
    return "6 without refinement, derived: 157M parameters and 608G for five tasks" + (
        ", 219M for five networks" * (method == "singletask")
    )


def training_lines(benchmark: Benchmark, tasks: tuple[str, ...], weights: tuple[dict[str, float], str]) -> list[Line]:
    """Settings of the training."""
    what = benchmark.schedule
    factors, source = weights
    lines: list[Line] = [
        ("epochs", 100, what),
        ("batch", 6, what),
        ("optimizer", "adam", f"{what}; weight decay is coupled"),
        ("lr", 2.0e-5, what),
        ("backbone_lr", 1.0, f"{what}: one group of parameters"),
        ("weight_decay", 1.0e-6, what),
        ("schedule", "poly", f"{what}: (1 - epoch / epochs) ** 0.9"),
        ("clip", 10.0, what),
        ("ema", 0.0, what),
        ("self_training", "never", f"{what}: pairs without a label teach nothing"),
        ("precision", "32-true", what),
        ("seed", 0, what),
        ("task_weights", {task: factors[task] for task in tasks}, source),
        ("holdout", 0.0, f"{what}: the last weights are scored, nothing is held out to choose better ones"),
    ]
    return lines


def config_text(
    benchmark: Benchmark, labels: str, name: str, method: str, task: str | None, weights: tuple[dict[str, float], str]
) -> str:
    """One file."""
    what = f"One network for {task} alone" if task else METHODS[method]
    many = "one label per image" if labels == "one" else "a random set of labels per image"
    address = f"{benchmark.folder}/{labels}/{name}"
    partition = benchmark.partitions[labels]
    head = [
        f"{what} on {benchmark.title}, {many}.",
        *([benchmark.note] if benchmark.note else []),
        "",
        f"  diffusionmtl train --config {address} --root DIR --labels {partition} \\",
        f"      --out runs/{address.replace('/', '-')}",
        "",
        "--reproduce adds what the published code does by mistake. Where each value comes from:",
        *(f"  {word}: {meaning}" for word, meaning in SOURCES.items()),
        *([NOT_RELEASED] if method != "feature" else []),
        "docs/reproduce.md says what remains unknown. Written by tools/published_configs.py.",
    ]
    single: list[Line] = [("tasks", [task], "see the top")] if task else []
    drawn = f"drawn here with label_seed; the published draw is the file {partition}"
    data: list[Line] = [*benchmark.data, *single, ("labels", labels, drawn), ("label_seed", 0, "ours")]
    training = training_lines(benchmark, (task,) if task else benchmark.tasks, weights)
    if method in ("feature", "prediction"):
        training.append(("initial_weight", 0.5, "code" if benchmark is PASCAL else benchmark.schedule))
    if method == "xtc":
        training.append(("xtc_weight", *benchmark.xtc_weight))
    parts = ["\n".join(f"# {line}".rstrip() for line in head)]
    parts += ["\n".join(map(yaml_line, lines)) for lines in (data, network_lines(method), training)]
    return "\n\n".join(parts) + "\n"


def yaml_line(line: Line) -> str:
    """`key: value  # source`."""
    key, value, source = line
    said = f"{key}: {yaml_value(value)}"
    return f"{said:38}  # {source}"


def yaml_value(value: object) -> str:
    """A value in the flow style of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {yaml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(yaml_value, value)) + "]"
    if isinstance(value, float) and 0 < value < 0.01:
        return f"{value:.1e}"  # 2e-05 without a point would be a word to YAML
    return value if isinstance(value, str) and value else json.dumps(value)


def all_configs() -> Iterator[tuple[str, str]]:
    """The path of every file below `configs/`, and its text."""
    for benchmark in BENCHMARKS:
        for labels in LABELS:
            named = [(f"singletask-{task}", "singletask", task, benchmark.weights) for task in benchmark.tasks]
            named += [(method, method, None, benchmark.weights) for method in METHODS]
            if benchmark is NYUD:
                named.append(("feature-hitts-weights", "feature", None, HITTS_WEIGHTS))
            for name, method, task, weights in named:
                path = f"{benchmark.folder}/{labels}/{name}.yaml"
                yield path, config_text(benchmark, labels, name, method, task, weights)


def main() -> None:
    """Write them."""
    for path, text in all_configs():
        (CONFIGS / path).parent.mkdir(parents=True, exist_ok=True)
        (CONFIGS / path).write_text(text, encoding="utf-8")
    print(f"{sum(1 for _ in all_configs())} files below {CONFIGS}")


if __name__ == "__main__":
    main()
