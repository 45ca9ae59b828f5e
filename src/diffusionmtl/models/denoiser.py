"""The denoiser: guesses clean signals from noisy ones, guided by the multi-task condition."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusionmtl.maps import resize
from diffusionmtl.models import recompute
from diffusionmtl.models.blocks import (
    CorrectionBlock,
    CrossBlock,
    RefinementHead,
    SelfBlock,
    TimeEmbedding,
    conv3x3,
    to_map,
    to_tokens,
)

CORRECTION_BLOCKS = 2


class Denoiser(nn.Module):
    """One shared transformer between per-task convolutions (MTDNet of arXiv 2403.15389).

    The condition is the query stream and the noisy signal the context; what the queries gathered is added to the
    embedded signal, and a head per task turns it into the clean estimate. All (image, task) pairs go through the shared
    part together.

    Two forms of the estimate. As published, the head's output IS the estimate. As a correction, it is the noisy signal
    plus a projection of the head's output that starts at zero, so that training starts from the initial prediction
    instead of from noise (in the spirit of the preconditioning of Karras et al. 2022). Its heads are
    normalised residual blocks, since the published ones hardly move at small scale.

    Attributes:
        signal_channels: of the signal of each task, in the order of the task set.
        recompute: keep no maps of the blocks and heads for the backward pass, compute them again; "light": keep those
            of convolutions and matrix products.
        shared_head: what stands for all of `heads`; a task then has an embedding and a projection of its own only.
    """

    def __init__(
        self,
        signal_channels: Mapping[str, int],
        width: int,
        hidden: int,
        *,
        conditioned: bool = True,
        correction: bool = False,
        token_stride: int = 4,
        blocks: int = 4,
        attention_heads: int = 4,
        mlp_ratio: int = 4,
        separable: bool = False,
        share_head: bool = False,
    ) -> None:
        super().__init__()
        self.recompute: recompute.Again = False
        self.signal_channels = dict(signal_channels)
        self.conditioned = conditioned
        self.correction = correction
        self.token_stride = token_stride
        # The few channels of a prediction would have as few 3x3 filters, and dense ones cost little.
        self.embed = nn.ModuleDict(
            {task: conv3x3(count, width, separable and count >= width) for task, count in signal_channels.items()}
        )
        self.time = TimeEmbedding(width)
        kind = CrossBlock if conditioned else SelfBlock
        self.blocks = nn.ModuleList(kind(width, attention_heads, mlp_ratio) for _ in range(blocks))
        self.shared_head = self._head(width, hidden, separable) if share_head else None
        own = () if share_head else signal_channels
        self.heads = nn.ModuleDict({task: self._head(width, hidden, separable) for task in own})
        self.out = nn.ModuleDict({task: self._projection(width, count) for task, count in signal_channels.items()})
        for layer in [*self.blocks.modules(), *self.time.modules()]:
            if isinstance(layer, nn.Linear):
                _initialise(layer, keep_weight=layer in (self.time.fc1, self.time.fc2))

    def _head(self, width: int, hidden: int, separable: bool) -> nn.Module:
        if not self.correction:
            return RefinementHead(width, hidden, separable)
        return nn.Sequential(*(CorrectionBlock(width, hidden, separable) for _ in range(CORRECTION_BLOCKS)))

    def _projection(self, width: int, channels: int) -> nn.Module:
        if not self.correction:
            return nn.Identity() if channels == width else nn.Conv2d(width, channels, 1)
        projection = nn.Conv2d(width, channels, 1)
        for parameter in projection.parameters():
            nn.init.zeros_(parameter)
        return projection

    def forward(
        self,
        signals: Mapping[str, Tensor],
        condition: Float[Tensor, "p m d"] | None,
        step: int,
    ) -> dict[str, Tensor]:
        """Clean estimates, shaped like the signals.

        Args:
            signals: per task, noisy signals [n_t c h w].
            condition: per signal, the tokens of its image, from `condition_tokens`; None without condition.
            step: the diffusion step that the signals are at.
        """
        counts = [len(signals[task]) for task in signals]
        embedded = torch.cat([self.embed[task](x) for task, x in signals.items()]) + self.time(step)[:, None, None]
        grid = self._token_grid(embedded)
        context = to_tokens(resize(embedded, grid))
        query = context if condition is None else condition
        for block in self.blocks:
            query, context = recompute.run(block, query, context, again=self.recompute)
        gathered = resize(to_map(query, grid), (embedded.shape[-2], embedded.shape[-1])) + embedded
        if self.shared_head is not None:
            gathered = recompute.run(self.shared_head, gathered, again=self.recompute)
        estimates = {
            task: self.out[task](self._own(task, x)) for task, x in zip(signals, gathered.split(counts), strict=True)
        }
        if self.correction:
            return {task: signals[task] + change for task, change in estimates.items()}
        return estimates

    def _own(self, task: str, x: Float[Tensor, "n d h w"]) -> Float[Tensor, "n d h w"]:
        return x if self.shared_head is not None else recompute.run(self.heads[task], x, again=self.recompute)

    def condition_tokens(self, condition: Float[Tensor, "b d h w"]) -> Float[Tensor, "b m d"]:
        """The condition feature at the resolution of attention; the same for every task and step."""
        return to_tokens(resize(condition, self._token_grid(condition)))

    def _token_grid(self, x: Tensor) -> tuple[int, int]:
        return x.shape[-2] // self.token_stride, x.shape[-1] // self.token_stride


def _initialise(layer: nn.Linear, keep_weight: bool) -> None:
    if not keep_weight:
        nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
