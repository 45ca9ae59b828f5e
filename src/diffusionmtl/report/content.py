"""What a report says, before anybody decides how it looks: plain records of text, numbers and pictures.

All text is taken as it is; the page escapes it. Pictures are RGB.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from diffusionmtl.inference.uncertainty import Uncertainty
from diffusionmtl.tasks.charts import Counts

TRAINING_IMAGE = "training image"
UNSEEN_IMAGE = "unseen image"
SPREAD, EXPECTED = "spread", "expected error"


@dataclass(frozen=True)
class Table:
    """Rows of text under column names; the first column names the row, in a second line more closely if it has one.

    Attributes:
        emphasis: (row, column) of the cells that stand out.
        collapsed: long and secondary: the reader unfolds it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    emphasis: frozenset[tuple[int, int]] = frozenset()
    collapsed: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table '{self.caption}': {len(row)} cells under {len(self.columns)} columns")


@dataclass(frozen=True)
class Series:
    """One line of a diagram: finite numbers y over ascending steps x.

    Attributes:
        hue: which colour; lines of one network share it.
        dashed: set apart from the solid line of the same colour.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    hue: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Curve:
    """One diagram: numbers that change over the steps of training.

    Attributes:
        unit: of the numbers.
        series: lines by their labels.
    """

    name: str
    unit: str
    series: Mapping[str, Series]


@dataclass(frozen=True)
class TaskPanel:
    """What one task says of one image, side by side.

    Attributes:
        seen: the label that training saw; None if this pair was not labelled.
        truth: the annotation; None if there is none.
        initial: the prediction before refinement; None for a network without refinement.
        spread: how far the noise draws disagree; None for a single draw.
        spread_name: `EXPECTED` where a calibration says what error follows from that, else `SPREAD`.
        spread_note: the range of its colours with the unit, `0 to 0.31 m`.
        caption: a figure of this image.
        others: predictions of other networks, by their labels.
        steps: what each denoising step of one draw would have answered, first to last; empty if there are no two.
    """

    task: str
    kind: str
    refined: UInt8[np.ndarray, "h w 3"]
    seen: UInt8[np.ndarray, "h w 3"] | None = None
    truth: UInt8[np.ndarray, "h w 3"] | None = None
    initial: UInt8[np.ndarray, "h w 3"] | None = None
    spread: UInt8[np.ndarray, "h w 3"] | None = None
    spread_name: str = SPREAD
    spread_note: str = ""
    caption: str = ""
    others: Mapping[str, UInt8[np.ndarray, "h w 3"]] = field(default_factory=dict)
    steps: tuple[UInt8[np.ndarray, "h w 3"], ...] = ()


@dataclass(frozen=True)
class Example:
    """One image and what is known and predicted of it.

    Attributes:
        where: `TRAINING_IMAGE` or `UNSEEN_IMAGE`.
    """

    name: str
    where: str
    image: UInt8[np.ndarray, "h w 3"]
    panels: tuple[TaskPanel, ...]


@dataclass(frozen=True)
class Ranked:
    """Where one task did best, middling and worst.

    Attributes:
        note: among which images.
        examples: by the word for the rank, with the panel of that task alone.
    """

    task: str
    note: str
    examples: Mapping[str, Example]


@dataclass(frozen=True)
class Finding:
    """How one task's answers lie beside the labels, over many images.

    Attributes:
        note: over which images.
        charts: in the forms that a kind counts.
        uncertainty: how sure they are and how right; None if that is not known.
        measured: over which images that was found.
    """

    task: str
    kind: str
    note: str
    charts: tuple[Counts, ...] = ()
    uncertainty: Uncertainty | None = None
    measured: str = ""


@dataclass(frozen=True)
class Legend:
    """How to read the pictures and figures of one task.

    Attributes:
        reading: what the colours mean.
        figures: what the figures mean.
        entries: names and colours of classes; empty where there are none.
    """

    task: str
    reading: str
    figures: str = ""
    entries: tuple[tuple[str, tuple[int, int, int]], ...] = ()


@dataclass(frozen=True)
class Report:
    """A whole page.

    Attributes:
        lead: one paragraph: what was done.
        highlights: the few numbers to take away, (number, words).
        ranked: best, median and worst images per task.
        findings: confusion, scatter, reliability and the like per task.
        coverage: how many labels training saw; None if that is not known.
        provenance: how it was made, name and value.
        settings: every setting, per run a column; None if not known.
        command: what to type to make it again; empty if not known.
        notes: what a reader must know to judge the figures.
    """

    title: str
    lead: str
    highlights: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    curves: tuple[Curve, ...] = ()
    examples: tuple[Example, ...] = ()
    ranked: tuple[Ranked, ...] = ()
    findings: tuple[Finding, ...] = ()
    legends: tuple[Legend, ...] = ()
    coverage: Table | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    settings: Table | None = None
    command: str = ""
    notes: tuple[str, ...] = ()
