"""Samplers: from a noisy signal to a clean one, given something that guesses the clean signal.

A sampler is a function over a callable, so that a test can hand in an oracle and a report can watch the steps. Signals
come by name, since those of several tasks are denoised together.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from diffusionmtl.diffusion.process import Schedule, posterior_mean

Signals = Mapping[str, Tensor]
CleanEstimate = Callable[[Signals, int], Signals]
Draw = Callable[[str, int, Tensor], Tensor]
Watch = Callable[[int, Signals, Signals], None]


def ddpm(
    schedule: Schedule, start: Signals, estimate: CleanEstimate, draw: Draw, watch: Watch | None = None
) -> Signals:
    """Ancestral sampling (Ho et al. 2020, algorithm 2) with a clean-signal estimator.

    Args:
        schedule: the process that noised `start`.
        start: signals at step S - 1.
        estimate: (signals x_k, k) -> estimates of the clean signals.
        draw: (name, k, like) -> standard normal noise for the step from k to k - 1.
        watch: called with (k, x_k, clean estimates) after every step.

    Returns:
        The clean estimates of step 0, to which no noise is added.
    """
    noisy, clean = start, start
    for k in reversed(range(schedule.steps)):
        clean = estimate(noisy, k)
        if watch is not None:
            watch(k, noisy, clean)
        if k > 0:
            deviation = schedule.posterior(k)[2] ** 0.5
            noisy = {
                name: posterior_mean(schedule, clean[name], x, k) + deviation * draw(name, k, x)
                for name, x in noisy.items()
            }
    return clean


def ddim(schedule: Schedule, start: Signals, estimate: CleanEstimate, watch: Watch | None = None) -> Signals:
    """Deterministic implicit sampling (Song et al. 2021, eq. 12 with eta = 0); draws no noise after `start`."""
    noisy, clean = start, start
    for k in reversed(range(schedule.steps)):
        clean = estimate(noisy, k)
        if watch is not None:
            watch(k, noisy, clean)
        if k > 0:
            power, before = schedule.signal_power(k), schedule.signal_power(k - 1)
            ratio = ((1 - before) / (1 - power)) ** 0.5
            noisy = {
                name: before**0.5 * clean[name] + ratio * (x - power**0.5 * clean[name]) for name, x in noisy.items()
            }
    return clean


def repeated(schedule: Schedule, start: Signals, estimate: CleanEstimate, watch: Watch | None = None) -> Signals:
    """No diffusion at all: each clean estimate is the next signal. Table 2's "w/o diffusion" of arXiv 2403.15389."""
    clean = start
    for k in reversed(range(schedule.steps)):
        before, clean = clean, estimate(clean, k)
        if watch is not None:
            watch(k, before, clean)
    return clean
