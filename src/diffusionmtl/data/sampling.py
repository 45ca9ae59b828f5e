"""Which image comes when: an order that is a function of (seed, epoch) alone.

There is no state to save. Whoever knows the seed, the epoch and how many batches of it were used can go on where
another process stopped, with other workers and another number of processes, and sees the same samples augmented alike.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from diffusionmtl.errors import UserError
from diffusionmtl.seeds import derive_seed

Key = tuple[int, int]
"""(epoch, index in the data set): all that the randomness of a sample depends on, beside the seed."""


class EpochSampler(Sampler[list[Key]]):
    """The batches of one process, each a list of keys.

    The batches of all processes together are those that one process with a batch of `batch_size * world` would get.

    Args:
        indices: the images to show, as positions in the data set.
        batch_size: samples per batch and process.
        seed: of the order.
        shuffle: a new order each epoch, or that of `indices`.
        drop_last: leave out the samples that fill no whole batch; a different few each epoch. Otherwise the last batch
            is smaller, and with several processes starts again from the first samples until each has as many.
        rank, world: this process and how many there are.

    Raises:
        UserError: there are not enough images for one batch.
    """

    def __init__(
        self,
        indices: Sequence[int],
        batch_size: int,
        seed: int,
        *,
        shuffle: bool = True,
        drop_last: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.indices = np.asarray(indices, dtype=np.int64)
        self.batch_size, self.seed, self.shuffle, self.drop_last = batch_size, seed, shuffle, drop_last
        self.epoch = 0
        self.start_batch = 0
        self.divide(rank, world)

    def divide(self, rank: int, world: int) -> None:
        """Become the sampler of process `rank` of `world`.

        Raises:
            UserError: there are not enough images for one batch each.
        """
        together = self.batch_size * world
        if self.batch_size < 1 or not 0 <= rank < world:
            raise ValueError(f"batch_size {self.batch_size}, rank {rank} of {world} processes: not possible")
        if len(self.indices) < (together if self.drop_last else 1):
            raise UserError(
                f"--batch {self.batch_size}: {together} images at once, but only {len(self.indices)} have a label and "
                "are not held out; lower --batch or --holdout, or label more images"
            )
        self.rank, self.world = rank, world

    @property
    def batches_per_epoch(self) -> int:
        """Batches of a whole epoch, the same for every process."""
        together = self.batch_size * self.world
        return len(self.indices) // together if self.drop_last else -(-len(self.indices) // together)

    def __len__(self) -> int:
        return self.batches_per_epoch - self.start_batch

    def go_to(self, epoch: int, start_batch: int = 0) -> None:
        """Continue with batch `start_batch` of `epoch`.

        Raises:
            ValueError: the epoch has no such batch.
        """
        if not 0 <= start_batch <= self.batches_per_epoch:
            raise ValueError(f"batch {start_batch} of an epoch of {self.batches_per_epoch}")
        self.epoch, self.start_batch = epoch, start_batch

    def set_epoch(self, epoch: int) -> None:
        """Start `epoch`, as training loops say it; does nothing if that is the epoch which `go_to` entered."""
        if epoch != self.epoch:
            self.go_to(epoch)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order, together = self.epoch, self._order(), self.batch_size * self.world
        for batch in range(self.start_batch, self.batches_per_epoch):
            all_of_it = order[batch * together : (batch + 1) * together]
            share = -(-len(all_of_it) // self.world)
            all_of_it = np.concatenate([all_of_it, np.resize(order, share * self.world - len(all_of_it))])
            yield [(epoch, int(index)) for index in all_of_it[self.rank * share : (self.rank + 1) * share]]

    def _order(self) -> np.ndarray:
        if not self.shuffle:
            return self.indices
        return np.random.default_rng(derive_seed("order", self.seed, self.epoch)).permutation(self.indices)
