"""Refinement by diffusion: signal and condition from the initial network, noise, denoising, final prediction."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffusionmtl.diffusion import NoiseSource, Schedule, ddpm, q_sample, repeated
from diffusionmtl.diffusion.samplers import Watch
from diffusionmtl.models.denoiser import Denoiser
from diffusionmtl.transfer import picked
from diffusionmtl.types import InitialOutput


class FeatureSignal(nn.Module):
    """Feature Diffusion: the initial feature is diffused and a 1x1 head per task reads the denoised one."""

    def __init__(self, heads: nn.ModuleDict) -> None:
        super().__init__()
        self.heads = heads

    def start(self, initial: InitialOutput) -> Mapping[str, Tensor]:
        """The initial features, not detached: the refinement trains the decoders too."""
        return initial.features

    def read(self, task: str, clean: Tensor) -> Tensor:
        """Through the task's head."""
        return self.heads[task](clean)


class PredictionSignal(nn.Module):
    """Prediction Diffusion: the initial raw prediction is diffused, and the denoised one is the answer.

    What exactly is noised is not published; raw outputs on the coarse grid, times `scale`, are our interpretation.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def start(self, initial: InitialOutput) -> Mapping[str, Tensor]:
        """The initial predictions, not detached."""
        return {task: self.scale * raw for task, raw in initial.predictions.items()}

    def read(self, task: str, clean: Tensor) -> Tensor:
        """As it is."""
        return clean / self.scale


class Condition(nn.Module):
    """The multi-task condition feature: a 3x3 convolution over what the initial network says of all tasks.

    Attributes:
        on_features: combine the initial features (as one figure of the paper draws it) instead of the initial
            predictions (as the published network does).
    """

    def __init__(self, channels: Mapping[str, int], width: int, on_features: bool = False) -> None:
        super().__init__()
        self.on_features = on_features
        given = width * len(channels) if on_features else sum(channels.values())
        self.conv = nn.Conv2d(given, width, 3, padding=1)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, initial: InitialOutput) -> Float[Tensor, "b d h w"]:
        """No gradient flows back into the initial network."""
        maps = initial.features if self.on_features else initial.predictions
        return self.conv(torch.cat([x.detach() for x in maps.values()], dim=1))


class Refiner(nn.Module):
    """Diffuses the signals of the asked (image, task) pairs to the last step and denoises them together.

    Attributes:
        noisy: add noise. Without it the same network refines the signals step by step ("w/o diffusion", table 2).
        condition: what all tasks say of an image; None for a denoiser that hears of its own signal only.
    """

    def __init__(
        self,
        signal: FeatureSignal | PredictionSignal,
        condition: Condition | None,
        denoiser: Denoiser,
        schedule: Schedule,
        noisy: bool = True,
    ) -> None:
        super().__init__()
        self.noisy = noisy
        self.signal = signal
        self.condition = condition
        self.denoiser = denoiser
        self.schedule = schedule

    def forward(
        self,
        initial: InitialOutput,
        rows: Mapping[str, Int[Tensor, "n"]] | None,
        noise: NoiseSource,
        watch: Watch | None = None,
    ) -> dict[str, Tensor]:
        """Refined raw outputs per task [n_t C_t h w].

        Args:
            initial: of the whole batch; all its tasks contribute to the condition.
            rows: per task to refine, which images of the batch, on the CPU; every task of every image if None.
            noise: source of every draw.
            watch: called with (step, noisy signals, clean estimates) after each denoising step.
        """
        if rows is not None and not rows:
            return {}
        whole = self.signal.start(initial)
        clean = whole if rows is None else {task: picked(whole[task], at) for task, at in rows.items()}
        at = rows or {task: torch.arange(x.shape[0], device="cpu") for task, x in clean.items()}
        condition = self._tokens(initial, rows)

        def estimate(signals: Mapping[str, Tensor], step: int) -> Mapping[str, Tensor]:
            return self.denoiser(signals, condition, step)

        def draw(task: str, step: int, like: Tensor) -> Tensor:
            return noise(task, step, at[task], like)

        if self.noisy:
            steps = self.schedule.steps
            noisy = {task: q_sample(self.schedule, x, steps - 1, draw(task, steps, x)) for task, x in clean.items()}
            refined = ddpm(self.schedule, noisy, estimate, draw, watch)
        else:
            refined = repeated(self.schedule, clean, estimate, watch)
        return {task: self.signal.read(task, x) for task, x in refined.items()}

    def _tokens(
        self, initial: InitialOutput, rows: Mapping[str, Int[Tensor, "n"]] | None
    ) -> Float[Tensor, "p m d"] | None:
        """The condition of each pair's image, gathered once for all steps."""
        if self.condition is None:
            return None
        tokens = self.denoiser.condition_tokens(self.condition(initial))
        if rows is None:
            return tokens.repeat(len(initial.predictions), 1, 1)
        return picked(tokens, torch.cat([*rows.values()]))
