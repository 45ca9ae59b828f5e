"""The folder in which a training run lives, and where in it things are."""

from dataclasses import dataclass
from pathlib import Path

LAST_CHECKPOINT = "last.ckpt"
PREVIOUS_CHECKPOINT = "previous.ckpt"


@dataclass(frozen=True)
class RunFolder:
    """The files of a run; everything that it writes lies below `root`."""

    root: Path

    @property
    def config(self) -> Path:
        """Settings and task set."""
        return self.root / "config.yaml"

    @property
    def partition(self) -> Path:
        """The labels that training saw."""
        return self.root / "partition.txt"

    @property
    def held_out(self) -> Path:
        """The images that training did not learn from though it saw their labels, one a line; older runs have none."""
        return self.root / "held-out.txt"

    @property
    def checkpoints(self) -> Path:
        """`last.ckpt` to resume from, `previous.ckpt` if that is damaged; `last`/`best.safetensors` to predict with."""
        return self.root / "checkpoints"

    @property
    def log(self) -> Path:
        """TensorBoard events and `metrics.csv`; `metrics-001.csv` and so on from before the run was resumed."""
        return self.root / "log"

    def set_log_aside(self) -> None:
        """Rename `metrics.csv` to `metrics-001.csv` and so on, since Lightning deletes the log of a run it resumes."""
        current = self.log / "metrics.csv"
        if current.is_file():
            current.rename(self.log / f"metrics-{len(list(self.log.glob('metrics-*.csv'))) + 1:03}.csv")

    def clear_unfinished(self) -> None:
        """Remove what a process that was killed had begun to write of the run; the one that has it now calls this."""
        noted = (self.config, self.partition, self.held_out, self.provenance)
        for pattern in (*(f".{path.name}.*.part" for path in noted), "checkpoints/.*.part"):
            for path in self.root.glob(pattern):
                path.unlink(missing_ok=True)

    @property
    def metrics(self) -> Path:
        """Scores of the last evaluation."""
        return self.root / "metrics.json"

    @property
    def per_image(self) -> Path:
        """What each image adds to the headline figures of the last evaluation."""
        return self.root / "metrics-per-image.npz"

    @property
    def provenance(self) -> Path:
        """When and with what training started: versions, and where the first weights came from."""
        return self.root / "provenance.json"

    @property
    def report(self) -> Path:
        """The page that shows it all."""
        return self.root / "report.html"

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return any((self.checkpoints / name).is_file() for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT))
