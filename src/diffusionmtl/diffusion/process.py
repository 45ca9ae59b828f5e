"""The forward process and its posterior, for a handful of steps.

Knows nothing of networks or tasks. Step k runs from 0 (least noise) to steps - 1. The coefficients are computed in
float64 and kept as Python numbers, so that they are exact whatever the precision of the signal.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """How strongly step k is noised.

    Attributes:
        betas: variance that step k adds, each in (0, 1).
    """

    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.betas or not all(0 < beta < 1 for beta in self.betas):
            raise ValueError(f"every beta must lie between 0 and 1, got {self.betas}")

    @property
    def steps(self) -> int:
        """S, the number of steps."""
        return len(self.betas)

    def signal_power(self, k: int) -> float:
        """Product of 1 - beta over steps 0..k (abar_k); 1 for k = -1, the clean signal."""
        return float(np.prod(1.0 - np.asarray(self.betas[: k + 1], dtype=np.float64)))

    def posterior(self, k: int) -> tuple[float, float, float]:
        """Weights of x_0 and of x_k in the mean of q(x_{k-1} | x_k, x_0), and its variance (Ho et al. 2020, eq. 7)."""
        beta, power, before = self.betas[k], self.signal_power(k), self.signal_power(k - 1)
        on_clean = beta * before**0.5 / (1 - power)
        on_noisy = (1 - before) * (1 - beta) ** 0.5 / (1 - power)
        return on_clean, on_noisy, beta * (1 - before) / (1 - power)


def scaled_linear_schedule(steps: int, beta_start: float = 1e-3, beta_end: float = 1e-2) -> Schedule:
    """Betas whose square roots are equally spaced: the latent-diffusion schedule that the published code calls linear.

    With 2 steps and the defaults: 0.001 and 0.01. With 1 step: `beta_start`.
    """
    roots = np.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=np.float64)
    return Schedule(tuple(float(beta) for beta in roots**2))


def q_sample(
    schedule: Schedule, clean: Float[Tensor, "..."], k: int, noise: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """x_k: the clean signal diffused to step k with the given standard normal draw (Ho et al. 2020, eq. 4)."""
    power = schedule.signal_power(k)
    return power**0.5 * clean + (1 - power) ** 0.5 * noise


def posterior_mean(
    schedule: Schedule, clean: Float[Tensor, "..."], noisy: Float[Tensor, "..."], k: int
) -> Float[Tensor, "..."]:
    """Mean of x_{k-1} given x_k and an estimate of the clean signal."""
    on_clean, on_noisy, _ = schedule.posterior(k)
    return on_clean * clean + on_noisy * noisy
