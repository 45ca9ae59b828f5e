"""One run as a service: what the page and the API share."""

from dataclasses import dataclass
from pathlib import Path

from diffusionmtl.inference.predictor import Predictor
from diffusionmtl.report.collect import read_run
from diffusionmtl.report.content import Table
from diffusionmtl.report.provenance import evaluation_words
from diffusionmtl.report.tables import SCORE, coverage_table, figure_tables, headline_table, run_columns
from diffusionmtl.serve.answer import Answer, Asked, answer
from diffusionmtl.serve.engine import Engine, Ticket
from diffusionmtl.serve.intake import check_header, read_sent, safe_stem
from diffusionmtl.serve.limits import Limits

NOT_EVALUATED = "Not evaluated yet: diffusionmtl evaluate scores it on labelled images."


@dataclass(frozen=True)
class About:
    """What is known of a run beside its network.

    Attributes:
        name: of its folder.
        tables: labels that training saw, then figures; none for a weights file.
        notes: one sentence each.
    """

    name: str
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


def about_run(run: Path) -> About:
    """Read what a run folder says of itself; a weights file says nothing.

    Raises:
        UserError: a file in the folder is damaged.
    """
    name = run.resolve().name
    if not run.is_dir():
        return About(name)
    found = read_run(run)
    tables: list[Table] = []
    notes: list[str] = []
    if found.partition is not None:
        tables.append(coverage_table(found.tasks, found.partition, found.metrics))
    if found.metrics is None:
        notes.append(NOT_EVALUATED)
    else:
        columns = run_columns(found.metrics)
        first = next(iter(columns)) if columns else SCORE
        tables.append(headline_table(found.tasks, columns, first, "Scores"))
        tables += figure_tables(found.tasks, columns)
        notes += [evaluation_words(found.metrics), *found.metrics.notes]
    return About(name, tuple(tables), tuple(notes))


@dataclass(frozen=True)
class Service:
    """A run that answers.

    Attributes:
        engine: the queue that everybody stands in.
    """

    predictor: Predictor
    about: About
    limits: Limits
    engine: Engine

    def ask(self, path: Path, name: str | None, asked: Asked) -> Ticket[Answer]:
        """Queue up with an image file, which must stay there until the answer; its name is that of its sender.

        Raises:
            Refused: it is no image, too large, or too many are waiting.
        """
        check_header(path, name, self.limits)

        def work() -> Answer:
            return answer(self.predictor, read_sent(path, name, self.limits), safe_stem(name), asked)

        return self.engine.submit(work)
