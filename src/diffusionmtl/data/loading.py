"""From a data set and its partition to training batches."""

import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from diffusionmtl.data.base import DenseDataset, read_sample
from diffusionmtl.data.collate import collate
from diffusionmtl.data.partition import Partition
from diffusionmtl.data.sampling import EpochSampler, Key
from diffusionmtl.data.transforms import Augmentation, CropLabel, augment, settle_silent
from diffusionmtl.errors import UserError
from diffusionmtl.seeds import derive_seed
from diffusionmtl.types import Batch, Sample


class VisibleDataset(Dataset[Sample]):
    """The images of a data set that show a label, with nothing but what they show.

    A sample depends on the seed and its key (epoch, index) alone, whichever process reads it and whatever came before.

    Attributes:
        indices: positions in the data set of the images that show a label; what an `EpochSampler` is to draw from.
        unlabelled: names of the images left out because they show none.

    Args:
        augmentation: None gives every image as it is.
        names: restrict to these images, the training side of a hold-out for instance.
        predicted_weight: how much labels that are predictions count in the objective.

    Raises:
        UserError: no image shows a label.
    """

    def __init__(
        self,
        dataset: DenseDataset,
        partition: Partition,
        augmentation: Augmentation | None,
        seed: int,
        names: Iterable[str] | None = None,
        predicted_weight: float = 1.0,
    ) -> None:
        self.predicted_weight = predicted_weight
        chosen = set(dataset.names if names is None else names)
        visible = [partition.visible.get(name, frozenset()) for name in dataset.names]
        self.dataset, self.augmentation, self.seed = dataset, augmentation, seed
        self.visible = visible
        self.indices = tuple(i for i, name in enumerate(dataset.names) if name in chosen and visible[i])
        self.unlabelled = tuple(n for i, n in enumerate(dataset.names) if n in chosen and not visible[i])
        if not self.indices:
            raise UserError(
                f"data set '{dataset.name}': none of {len(chosen)} images has a visible label (labels: "
                f"{partition.source}); choose others with --labels, or label some"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        sample = read_sample(self.dataset, index, self.visible[index], self.predicted_weight)
        if self.augmentation is None:
            return sample
        generator = torch.Generator().manual_seed(derive_seed("augment", self.seed, epoch, index))
        varied = augment(sample, self.augmentation, generator, self._leaked(index))
        return settle_silent(varied, self.dataset.foreground_only, self.augmentation.published)

    def _leaked(self, index: int) -> CropLabel | None:
        """The hidden label that published code draws its crops by; nothing else ever opens a hidden one."""
        assert self.augmentation is not None
        task = self.augmentation.crop_by
        if not self.augmentation.published or task is None or task in self.visible[index]:
            return None
        return self.dataset.label(index, task) if task in self.dataset.annotated(index) else None


class _BatchReader(Dataset[Batch | UserError]):
    """Reads whole batches, so that a mistake of the user's leaves a worker as a value.

    PyTorch would wrap the exception of a worker into a page of text; the one line is what a person needs.
    """

    def __init__(self, dataset: VisibleDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, keys: Sequence[Key]) -> Batch | UserError:
        try:
            return collate([self.dataset[key] for key in keys], self.dataset.dataset.tasks)
        except UserError as error:
            return error


class BatchLoader(DataLoader[Any]):
    """A `DataLoader` that yields `Batch`es, raises the `UserError`s met while reading them and can be resumed.

    Its state is how many batches of which epoch it has given, whatever its workers have read ahead.
    """

    sampler: EpochSampler

    def __iter__(self) -> Iterator[Batch]:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._given = self.sampler.start_batch
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            self._given += 1
            yield batch

    def __len__(self) -> int:
        return self.sampler.batches_per_epoch

    def state_dict(self) -> dict[str, int]:
        """Where in which epoch it stands."""
        return {"epoch": self.sampler.epoch, "batch": getattr(self, "_given", self.sampler.start_batch)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue there: with the next epoch if that one was complete."""
        if state["batch"] >= self.sampler.batches_per_epoch:
            self.sampler.go_to(state["epoch"] + 1)
        else:
            self.sampler.go_to(state["epoch"], state["batch"])


def loader(dataset: VisibleDataset, sampler: EpochSampler, workers: int = 0, pin_memory: bool = False) -> BatchLoader:
    """Batches in the sampler's order, read by `workers` processes (0: by this one), the same for any number.

    The sampler is the loader's `sampler`, where training loops look for `set_epoch`.
    """
    return BatchLoader(
        _BatchReader(dataset),
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=_leave_interrupts_to_the_main_process,
        # Its own generator: a loader that drew its base seed from the global one would change what is drawn after it.
        generator=torch.Generator().manual_seed(derive_seed("workers", sampler.seed)),
    )


def _leave_interrupts_to_the_main_process(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
