"""Several processes that train one network: who is the first, and what they decide together."""

import os
from collections.abc import Mapping

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def is_first(world: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the one that prints, and writes into the run folder.

    Args:
        world: how many processes there are; a single one is the first whatever its environment says.
        environment: where torchrun, SLURM and Lightning leave the number of a process; the first word found counts.
    """
    if world == 1:
        return True
    return next((environment[word] for word in RANKS if environment.get(word)), "0") == "0"
