"""What the API answers, field by field; OpenAPI takes its descriptions from here."""

from pydantic import BaseModel, Field

from diffusionmtl.report.content import Table
from diffusionmtl.serve.limits import Limits
from diffusionmtl.serve.service import Service


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str = Field(description="one line that says what to do")


class Health(BaseModel):
    """The server is there."""

    status: str = Field(description="always ok")
    inside: int = Field(description="requests that are waiting or being answered")
    waiting_limit: int = Field(description="how many may wait before others are turned away with 503")


class Colour(BaseModel):
    """A line of a legend."""

    name: str
    rgb: tuple[int, int, int]


class TaskAbout(BaseModel):
    """What a task answers."""

    name: str
    kind: str
    unit: str
    uncertainty_unit: str
    headline: str = Field(description="the figure it is judged by")
    higher_is_better: bool
    legend: list[Colour]


class TableAbout(BaseModel):
    """Text in rows."""

    caption: str
    columns: list[str]
    rows: list[list[str]]

    @classmethod
    def of(cls, table: Table) -> "TableAbout":
        """The same."""
        return cls(caption=table.caption, columns=list(table.columns), rows=[list(row) for row in table.rows])


class LimitsAbout(BaseModel):
    """What a request may cost."""

    bytes: int
    pixels: int
    samples: int
    seconds: float
    waiting: int

    @classmethod
    def of(cls, limits: Limits) -> "LimitsAbout":
        """The same."""
        return cls(
            bytes=limits.size,
            pixels=limits.pixels,
            samples=limits.samples,
            seconds=limits.seconds,
            waiting=limits.waiting,
        )


class RunAbout(BaseModel):
    """The run that answers."""

    name: str
    refines: bool = Field(description="false for a network that answers without denoising")
    tasks: list[TaskAbout]
    tables: list[TableAbout] = Field(description="labels that training saw, and scores")
    notes: list[str]
    limits: LimitsAbout

    @classmethod
    def of(cls, service: Service) -> "RunAbout":
        """What a service says of itself."""
        network = service.predictor.network
        tasks = [
            TaskAbout(
                name=task.name,
                kind=task.kind,
                unit=task.unit,
                uncertainty_unit=task.spread_unit,
                headline=task.headline,
                higher_is_better=task.higher_is_better,
                legend=[Colour(name=name, rgb=rgb) for name, rgb in task.legend()],
            )
            for task in network.tasks
        ]
        return cls(
            name=service.about.name,
            refines=network.refiner is not None,
            tasks=tasks,
            tables=[TableAbout.of(table) for table in service.about.tables],
            notes=list(service.about.notes),
            limits=LimitsAbout.of(service.limits),
        )


class TaskAnswer(BaseModel):
    """One task of an image. Files are base64."""

    kind: str
    unit: str
    file_name: str = Field(description="what `diffusionmtl predict` would call the file below")
    file: str = Field(description="the value of every pixel: a PNG or a .npy")
    picture: str = Field(description="PNG to look at")
    uncertainty: str | None = Field(description="PNG, bright where unsure; null for a single sample")
    uncertainty_unit: str
    uncertainty_mean: float | None = Field(description="over the pixels, in that unit")
    stages: dict[str, str] = Field(
        description="PNGs on the way: initial, step 1, ...; empty unless `steps` was asked for"
    )


class Predicted(BaseModel):
    """The answer for an image."""

    name: str
    height: int
    width: int
    samples: int
    seed: int
    seconds: float
    tasks: dict[str, TaskAnswer]
