"""What every task kind must say about itself.

A kind is one file: a label type with its geometric rules, a meter with its metrics, and the `Task` that says how a
label is read and written, what the network must output for it, the loss, what the output means, how sure it is and how
it is drawn. Nothing else in the package asks which kind a task is.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from inspect import isabstract
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torchmetrics
from jaxtyping import Bool, Float, Float64, Shaped, UInt8
from torch import Tensor, nn

from diffusionmtl import colour, files, notebook
from diffusionmtl.errors import UserError, nearest
from diffusionmtl.labels import LabelMap, ValidMap
from diffusionmtl.tasks.charts import Counts
from diffusionmtl.tasks.values import fitting

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_TAKEN_FOLDERS = ("confidence", "dataset", "images", "pictures", "predicted", "uncertainty")


def name_fault(name: object) -> str | None:
    """What keeps a word from being a task's name, which is a folder on disk and a key of modules; None if nothing."""
    if isinstance(name, bool):
        return "put it in quotes"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "use letters, digits, _ and -"
    if name in _TAKEN_FOLDERS:
        return f"{', '.join(_TAKEN_FOLDERS)} are folders of their own; choose another word"
    if hasattr(nn.ModuleDict, name) or hasattr(nn.ModuleDict(), name):
        return f"PyTorch keeps that word for itself; say {name}_map, for instance"
    return None


class Meter(torchmetrics.Metric):
    """Accumulates one task's metrics over a data set; sums over processes are torchmetrics' business."""

    full_state_update = False
    slow: ClassVar[bool] = False  # an image takes so long to score that processes should share the work

    @abstractmethod
    def update(
        self, estimate: Float[Tensor, "n a h w"], label: Shaped[Tensor, "n c h w"], valid: Bool[Tensor, "n h w"]
    ) -> None:
        """Add n images: `Task.activate`d outputs, labels and where they count."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Every figure under a name that carries its protocol, `mIoU@pooled` for instance; NaN where undefined."""

    def statistics(self) -> Float64[Tensor, "s"]:
        """What the headline figure follows from, of everything seen so far, in numbers that add up over images.

        Empty for a kind that keeps none: its figures then have no confidence interval.
        """
        return torch.zeros(0, dtype=torch.float64)

    def headline(self, statistics: Float64[Tensor, "b s"]) -> Float64[Tensor, "b"]:
        """The headline figure of b sets of images from the sums of their `statistics`; NaN where undefined."""
        return torch.full((len(statistics),), torch.nan, dtype=torch.float64)


@dataclass(frozen=True)
class Task(ABC):
    """One dense output that a network is to predict.

    Attributes:
        name: what the user calls it; also the folder of its labels.
        weight: its factor in the objective.
    """

    name: str
    weight: float = field(default=1.0, kw_only=True)

    kind: ClassVar[str]
    label_type: ClassVar[type[LabelMap]]
    label_channels: ClassVar[int] = 1
    suffixes: ClassVar[tuple[str, ...]]
    headline: ClassVar[str]
    higher_is_better: ClassVar[bool]
    unit: ClassVar[str]
    spread_unit: ClassVar[str]
    rightness: ClassVar[str] = ""  # what `is_right` asks, in words; a kind without it cannot be completed

    @property
    @abstractmethod
    def channels(self) -> int:
        """C_t, the channels of the raw output."""

    @property
    def label_dtype(self) -> torch.dtype:
        """What the numbers of a label [label_channels H W] are: float32 unless a kind says otherwise."""
        return torch.float32

    def meaning(self) -> tuple[object, ...]:
        """What a network learns by this task, apart from its name and from how its files are written.

        Tasks of equal meaning can be learnt and scored as one.
        """
        return (self.kind, self.channels)

    def unlike(self, other: "Task") -> str:
        """What this task is where another of its name means something else, for a person to read."""
        same = (self.kind, self.channels) == (other.kind, other.channels)
        return "it with other settings" if same else f"{self.kind} with {self.channels}"

    @abstractmethod
    def read(self, path: Path, max_pixels: int = files.MAX_PIXELS) -> tuple[LabelMap, ValidMap]:
        """Read and check a label file: the label [C H W] and where it means something [1 H W].

        Args:
            max_pixels: of an image; a picture of a label may have half as many, or 60 million.

        Raises:
            UserError: the file is unreadable or holds values that this task cannot have.
        """

    @abstractmethod
    def write(self, stem: Path, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"] | None = None) -> list[Path]:
        """Write a value so that `read` gives it back; `stem` is the path without suffix. Returns the files written."""

    def with_unknown(self) -> "Task":
        """The same task, with files that can say of a pixel that nothing is known; by default they all can."""
        return self

    def beside(self, other: "Task") -> "Task":
        """The same task, with files that can say what those of `other`, a task of equal meaning, say too."""
        return self

    def read_prediction(self, path: Path) -> Float[Tensor, "a h w"]:
        """What some program predicted, from a file as `write` makes it, in the form that `activate` gives.

        A pixel without an answer stays in: it is 0, or a vector of length 0.

        Raises:
            UserError: the file is unreadable or holds what nobody can have predicted.
        """
        value, _ = self.read(path)
        return value.as_subclass(Tensor).float()

    @abstractmethod
    def loss(
        self, raw: Float[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> Float[Tensor, "n"]:
        """One loss per sample, averaged over its own valid pixels; 0 where it has none."""

    @abstractmethod
    def activate(self, raw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n a h w"]:
        """Raw network output as a quantity that may be averaged: probabilities, metres, unit vectors."""

    def agreement(self, raw: Float[Tensor, "n c h w"], estimate: Float[Tensor, "n a h w"]) -> Float[Tensor, "n"]:
        """How far a raw output is from an activated one that a teacher gave, on the scale of `loss`; per sample.

        Smallest where `activate(raw)` is the estimate. By default the L1 distance, summed over channels.
        """
        return (self.activate(raw) - estimate).abs().sum(dim=1).mean(dim=(1, 2))

    def mirrored(self, estimate: Float[Tensor, "n a h w"]) -> Float[Tensor, "n a h w"]:
        """What was estimated for the mirror image, as an estimate for the image."""
        return estimate.flip(-1)

    @property
    def joint_channels(self) -> int:
        """Channels of `joint` and `joint_label`."""
        return self.label_channels

    def joint(
        self, raw: Float[Tensor, "n c h w"], valid: Bool[Tensor, "n h w"], generators: Sequence[torch.Generator]
    ) -> Float[Tensor, "n j h w"]:
        """A raw output, ready to be compared with the labels of other tasks (XTC): in the form of `joint_label`.

        Gradients pass. What is given where `valid` is False is thrown away, and no other pixel may depend on it.

        Args:
            generators: of whatever has to be drawn, classes for instance; one per map, some may be the same.
        """
        return self.activate(raw)

    def joint_label(self, label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]) -> Float[Tensor, "n j h w"]:
        """A label (0 where not valid), ready to be compared with the predictions of other tasks."""
        return label.float()

    def value(self, estimate: Float[Tensor, "n a h w"]) -> Shaped[Tensor, "n c h w"]:
        """The answer in the task's unit, from one activated output or the mean of several."""
        return estimate

    def spread(self, draws: Float[Tensor, "s n a h w"]) -> Float[Tensor, "n h w"]:
        """How far s activated outputs of the same image disagree, per pixel, in `spread_unit`; 0 if they are equal."""
        return draws.std(dim=0, correction=0).mean(dim=1)

    def confidence(
        self, estimate: Float[Tensor, "n a h w"], spread: Float[Tensor, "n h w"] | None
    ) -> Float[Tensor, "n h w"]:
        """How sure an estimate is, from 0 to 1; comparable within a task only. By default 1 / (1 + spread).

        Args:
            spread: `spread` of the draws that the estimate is the mean of; None for a single draw.
        """
        agreed = torch.zeros_like(estimate[:, 0]) if spread is None else spread
        return 1 / (1 + agreed)

    def is_right(self, value: Shaped[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"]) -> Bool[Tensor, "n h w"]:
        """Where a value is as good as its label, in the sense of `rightness`."""
        raise NotImplementedError(f"kind '{self.kind}' does not say when a prediction is right")

    def says_yes(self, value: Shaped[Tensor, "n c h w"]) -> Bool[Tensor, "n h w"] | None:
        """Where a kind of yes or no answers yes: that has to be right as often as no has. None for other kinds."""
        return None

    @property
    def error_unit(self) -> str:
        """Of `error`; that of the spread unless a kind says otherwise."""
        return self.spread_unit

    def error(self, value: Shaped[Tensor, "n c h w"], label: Shaped[Tensor, "n k h w"]) -> Float[Tensor, "n h w"]:
        """How wrong a value is, 0 or more, in `error_unit`: what an uncertainty should foretell.

        By default the absolute difference, averaged over channels.
        """
        return (value.as_subclass(Tensor) - label.as_subclass(Tensor).float()).abs().mean(dim=1)

    def log_odds(self, estimate: Float[Tensor, "n a h w"]) -> Float[Tensor, "n k h w"] | None:
        """The probabilities that an estimate states, as `metrics.calibration` takes them: k = 1 for yes or no.

        The label is then whole numbers [n 1 h w] below max(k, 2). None for a kind that states no probability: its
        spread stands for the expected error instead.
        """
        return None

    def extent(self, estimate: Float[Tensor, "n a h w"]) -> Float[Tensor, "n h w"] | None:
        """How large answers are, 0 or more, for a kind whose errors grow with them; by default None."""
        return None

    def charts(
        self, estimate: Float[Tensor, "n a h w"], label: Shaped[Tensor, "n k h w"], valid: Bool[Tensor, "n h w"]
    ) -> tuple[Counts, ...]:
        """How n answers lie beside their labels, in forms of `tasks.charts`, for the report to draw.

        The same forms for all images, so that what was counted of several adds up. By default none.
        """
        return ()

    @abstractmethod
    def meter(self) -> Meter:
        """A fresh meter for this task."""

    def meters(self) -> tuple[Meter, ...]:
        """Fresh meters for every protocol in which figures of this kind are published; the first is `meter`'s."""
        return (self.meter(),)

    @abstractmethod
    def draw(
        self,
        value: Shaped[Tensor, "c h w"],
        valid: Bool[Tensor, "h w"] | None = None,
        limits: tuple[float, float] | None = None,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """A picture of a value; grey where not valid. `limits` fixes the range of kinds that are drawn relative."""

    def limits(self, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"]) -> tuple[float, float] | None:
        """The range to draw `value` in, so that two pictures can share it; None where the kind needs none."""
        return None

    def _repr_html_(self) -> str:
        row = [notebook.escape(self.name), self.kind, self.unit, notebook.swatches(self.legend())]
        return notebook.table(["task", "kind", "unit", "colours"], [row])

    def legend(self) -> list[tuple[str, tuple[int, int, int]]]:
        """Names and colours of what `draw` shows; empty where a legend would say nothing."""
        return []

    def describe(self, value: Shaped[Tensor, "c h w"], valid: Bool[Tensor, "h w"]) -> dict[str, float]:
        """A few figures about a label for `data inspect`: its range by default."""
        seen = value.as_subclass(Tensor)[:, valid].double()
        if seen.numel() == 0:
            return {}
        return {"min": float(seen.min()), "mean": float(seen.mean()), "max": float(seen.max())}

    def doubts(self, figures: Mapping[str, float]) -> list[str]:
        """What looks wrong about many labels, given `describe` of them together: one hint each, not an error."""
        return []

    def settings(self) -> dict[str, Any]:
        """What `dataset.yaml` would say of this task: its kind and every field that differs from its default."""
        said: dict[str, Any] = {"kind": self.kind}
        for f in fields(self):
            if f.name == "name":
                continue
            value = getattr(self, f.name)
            if f.default is MISSING or value != f.default:
                said[f.name] = list(value) if isinstance(value, tuple) else value
        return said

    @classmethod
    def from_settings(cls, name: str, settings: dict[str, Any], where: str) -> "Task":
        """The reverse of `settings`, which comes from a file: `where` names it in errors.

        Raises:
            UserError: a key is unknown or missing, or a value does not fit.
        """
        given = {key: value for key, value in settings.items() if key != "kind"}
        known = {f.name for f in fields(cls)} - {"name"}
        for key in given:
            if key not in known:
                raise UserError(
                    f"{where}: task '{name}': unknown key '{key}' for kind '{cls.kind}'."
                    f"{nearest(key, known)} Known: {', '.join(sorted(known))}"
                )
        hints = {f.name: f.type for f in fields(cls)}
        try:
            values: dict[str, Any] = {key: fitting(key, value, hints[key]) for key, value in given.items()}
            if values.get("weight", 0.0) < 0:
                raise ValueError(f"weight must be 0 or more, not {values['weight']}")
            return cls(name, **values)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: task '{name}': {error}") from None


def task_kinds() -> dict[str, type[Task]]:
    """Every kind whose file has been imported, by the word that `dataset.yaml` uses for it."""
    found: dict[str, type[Task]] = {}
    queue = list(Task.__subclasses__())
    while queue:
        kind = queue.pop()
        queue.extend(kind.__subclasses__())
        if not isabstract(kind):
            found[kind.kind] = kind
    return dict(sorted(found.items()))


def task_from_settings(name: str, settings: Any, where: str) -> Task:
    """Build a task from what a data set file says of it; `where` names the file.

    Raises:
        UserError: no kind, an unknown kind, or settings that do not fit the kind.
    """
    kinds = task_kinds()
    if not isinstance(settings, dict) or "kind" not in settings:
        raise UserError(f"{where}: task '{name}' needs a kind, e.g. {name}: {{kind: {next(iter(kinds))}}}")
    kind = settings["kind"]
    if not isinstance(kind, str) or kind not in kinds:
        raise UserError(
            f"{where}: task '{name}': unknown kind '{kind}'.{nearest(kind, kinds)} Known: {', '.join(kinds)}, and "
            "kinds of your own whose file is imported before"
        )
    return kinds[kind].from_settings(name, settings, where)


def all_valid(value: Tensor) -> Bool[Tensor, "h w"]:
    """A validity mask that is True everywhere."""
    return torch.ones(value.shape[-2:], dtype=torch.bool)


def drawn_grey_where_invalid(
    picture: UInt8[np.ndarray, "h w 3"], valid: Bool[Tensor, "h w"] | None
) -> UInt8[np.ndarray, "h w 3"]:
    """`picture` with the neutral grey of 'nothing known' where `valid` is False."""
    if valid is None:
        return picture
    return np.where(valid.cpu().numpy()[..., None], picture, colour.GREY)
