"""Decisions of a person about labels of a network: plain records, and a file that is whole after each of them."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from diffusionmtl.errors import UserError
from diffusionmtl.files import read_bytes, write_bytes_atomically

Decision = Literal["accept", "reject", "skip"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
DECISION_FILE = "review.json"
_FORMAT = 1
_MAX_BYTES = 100_000_000


@dataclass(frozen=True, order=True)
class Pair:
    """What is decided on: one task of one image."""

    image: str
    task: str


@dataclass(frozen=True)
class Record:
    """A decision.

    Attributes:
        digest: of what was shown. Something else under the same name is undecided.
        at: when, ISO 8601.
    """

    decision: Decision
    digest: str
    at: str


@dataclass(frozen=True)
class Decisions:
    """All that was decided, by pair."""

    records: Mapping[Pair, Record] = field(default_factory=dict)

    def of(self, pair: Pair, digest: str) -> Decision | None:
        """What was decided on a pair as it is now; None if nothing was."""
        record = self.records.get(pair)
        return record.decision if record is not None and record.digest == digest else None

    def decided(self, pair: Pair, record: Record) -> "Decisions":
        """The same with one more, in place of an earlier one on the same pair."""
        return Decisions({**self.records, pair: record})

    def without(self, pair: Pair) -> "Decisions":
        """The same as if nothing had been decided on a pair."""
        return Decisions({other: record for other, record in self.records.items() if other != pair})

    def to_text(self) -> str:
        """As JSON, ordered by image and task."""
        rows = [
            {"image": pair.image, "task": pair.task, "decision": r.decision, "digest": r.digest, "at": r.at}
            for pair, r in sorted(self.records.items())
        ]
        return json.dumps({"format": _FORMAT, "decisions": rows}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_text(cls, text: str, where: str) -> "Decisions":
        """The reverse.

        Raises:
            UserError: it is something else; `where` names the file.
        """
        try:
            said = json.loads(text)
            if said["format"] != _FORMAT:
                raise ValueError
            return cls({Pair(str(row["image"]), str(row["task"])): _record(row) for row in said["decisions"]})
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(f"{where}: not a file of decisions, or a damaged one; rename it to begin anew") from None


def _record(row: Mapping[str, Any]) -> Record:
    if row["decision"] not in DECISIONS:
        raise ValueError
    return Record(row["decision"], str(row["digest"]), str(row["at"]))


def next_undecided(undecided: Sequence[bool], after: int) -> int | None:
    """The first place that is undecided behind `after`, then from the beginning; None if there is none."""
    count = len(undecided)
    return next((at % count for at in range(after + 1, after + 1 + count) if undecided[at % count]), None)


@dataclass(frozen=True)
class Shown:
    """A picture beside others."""

    caption: str
    picture: UInt8[np.ndarray, "h w 3"]


@runtime_checkable
class Reviewable(Protocol):
    """A folder of labels, or of wishes for labels, that a person is to judge.

    Attributes:
        title: what it is.
        help: what accept and reject do here.
        pairs: in the order in which they are to be seen.
    """

    folder: Path
    title: str
    help: str
    pairs: Sequence[Pair]

    def digest(self, pair: Pair) -> str:
        """Differs where what is to be judged differs."""
        ...

    def note(self, pair: Pair) -> str:
        """A line about it."""
        ...

    def pictures(self, pair: Pair) -> list[Shown]:
        """What is to be looked at; the image first."""
        ...

    def apply(self, pair: Pair, decision: Decision | None) -> None:
        """Make the folder as the decision wants it; may be done twice. A label of a person is never touched."""
        ...


class Book:
    """The decisions on a folder, on disk as soon as they are made.

    Args:
        now: the time, ISO 8601.
    """

    def __init__(self, folder: Reviewable, now: Callable[[], str]) -> None:
        self.folder = folder
        self.path = folder.folder / DECISION_FILE
        self._now = now
        self._lock = threading.Lock()
        self._digests: dict[Pair, str] = {}

    def read(self) -> Decisions:
        """What the file says now.

        Raises:
            UserError: it is damaged.
        """
        if not self.path.exists():
            return Decisions()
        text = read_bytes(self.path, _MAX_BYTES, "decisions").decode("utf-8", errors="replace")
        return Decisions.from_text(text, str(self.path))

    def catch_up(self) -> None:
        """Do again what a server that was stopped between the file and the folder left half done."""
        for pair, decision in zip(self.folder.pairs, self.standing(), strict=True):
            if decision is not None:
                self.folder.apply(pair, decision)

    def decide(self, pair: Pair, decision: Decision | None) -> Decisions:
        """Write a decision down, then act on it; None takes an earlier one back."""
        with self._lock:
            before = self.read()
            self._digests[pair] = self.folder.digest(pair)
            if decision is None:
                after = before.without(pair)
            else:
                after = before.decided(pair, Record(decision, self._digests[pair], self._now()))
            write_bytes_atomically(self.path, after.to_text().encode())
            self.folder.apply(pair, decision)
            return after

    def standing(self) -> list[Decision | None]:
        """What was decided, of each pair of the folder in order."""
        decisions = self.read()
        return [self._of(pair, decisions) for pair in self.folder.pairs]

    def _of(self, pair: Pair, decisions: Decisions) -> Decision | None:
        if pair not in decisions.records:
            return None
        if pair not in self._digests:
            self._digests[pair] = self.folder.digest(pair)
        return decisions.of(pair, self._digests[pair])
