"""Predictions from a trained network: any image size, several noise draws, the same bits for the same seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from diffusionmtl import files
from diffusionmtl.data.transforms import fit
from diffusionmtl.diffusion import SeededNoise
from diffusionmtl.inference.prediction import Prediction, TaskPrediction
from diffusionmtl.models.blocks import resize
from diffusionmtl.models.network import Network
from diffusionmtl.seeds import derive_seed
from diffusionmtl.tasks import Task

ImageLike = Path | str | np.ndarray | Image.Image | Tensor


@dataclass(frozen=True)
class Estimates:
    """Activated outputs of one task for some images, at full size.

    Attributes:
        mean: over the noise draws.
        spread: their disagreement, in the task's spread unit; None for one draw.
        initial: before refinement; None for a network without refinement.
    """

    mean: Float[Tensor, "b a h w"]
    spread: Float[Tensor, "b h w"] | None
    initial: Float[Tensor, "b a h w"] | None


class Predictor:
    """A trained network, ready for images.

    Attributes:
        network: in evaluation mode.
        size: images are shrunk or enlarged to fit inside this H, W before they are seen; None leaves them.
    """

    def __init__(self, network: Network, size: tuple[int, int] | None, device: torch.device | str = "cpu") -> None:
        self.network = network.to(device).eval()
        self.size = size
        self.device = torch.device(device)

    def __call__(self, image: ImageLike, samples: int = 1, seed: int = 0) -> Prediction:
        """Predict every task for one image.

        Args:
            image: a file's path, RGB array uint8 [H W 3] (or grey [H W], or float in [0, 1]), PIL image, or tensor
                [3 H W], uint8 or float in [0, 1].
            samples: noise draws; with more than one, the prediction is their mean and comes with an uncertainty.
            seed: of the noise.

        Raises:
            UserError: the file is not a readable image.
            ValueError: an array or tensor of another shape, or no samples.
        """
        original = to_image(image)
        seen = original if self.size is None else fit(original, self.size)
        estimates = self.estimate(seen[None], [0], samples, seed, (original.shape[-2], original.shape[-1]))
        tasks = {task.name: task for task in self.network.tasks}
        return Prediction(
            image=original,
            tasks={
                name: TaskPrediction(
                    task=tasks[name],
                    estimate=found.mean[0].cpu(),
                    uncertainty=None if found.spread is None else found.spread[0].cpu(),
                    initial=None if found.initial is None else found.initial[0].cpu(),
                )
                for name, found in estimates.items()
            },
        )

    @torch.inference_mode()
    def estimate(
        self,
        image: UInt8[Tensor, "b 3 h w"],
        keys: Sequence[int],
        samples: int,
        seed: int,
        size: tuple[int, int] | None = None,
    ) -> dict[str, Estimates]:
        """Activated outputs for a batch of images of one size.

        Args:
            image: as the network is to see them.
            keys: per image, what its noise is drawn for; an image's answer depends on its own key only.
            samples: noise draws. The backbone and the initial network run once for all of them.
            seed: of the noise.
            size: H, W of the answers; that of `image` if None.

        Raises:
            ValueError: no samples.
        """
        if samples < 1:
            raise ValueError(f"samples must be at least 1, not {samples}")
        initial = self.network.initial(image.to(self.device))
        outputs = [
            self.network.finish(initial, SeededNoise(derive_seed(seed, "sample", sample), keys))
            for sample in range(samples if self.network.refiner is not None else 1)
        ]

        def full(raw: Tensor) -> Tensor:
            enlarged = initial.canvas.to_image(raw)
            return enlarged if size is None else resize(enlarged, size)

        found: dict[str, Estimates] = {}
        for task in self.network.tasks:
            draws = torch.stack([task.activate(full(output.final[task.name])) for output in outputs])
            before = outputs[0].initial.get(task.name)
            found[task.name] = Estimates(
                mean=draws.mean(dim=0),
                spread=task.spread(draws) if len(draws) > 1 else None,
                initial=None if before is None else task.activate(full(before)),
            )
        return found

    def steps(self, image: ImageLike, seed: int = 0) -> list[Mapping[str, Tensor]]:
        """What each denoising step would have answered, first to last: per task, values [c h w] at the size seen.

        Empty for a network without refinement.
        """
        refiner = self.network.refiner
        if refiner is None:
            return []
        original = to_image(image)
        seen = original if self.size is None else fit(original, self.size)
        path: list[Mapping[str, Any]] = []
        with torch.inference_mode():
            initial = self.network.initial(seen[None].to(self.device))
            noise = SeededNoise(derive_seed(seed, "sample", 0), [0])
            self.network.finish(initial, noise, watch=lambda step, noisy, clean: path.append(dict(clean)))

            def answer(task: Task, clean: Tensor) -> Tensor:
                raw = initial.canvas.to_image(refiner.signal.read(task.name, clean))
                return task.value(task.activate(raw))[0]

            return [{task.name: answer(task, clean[task.name]) for task in self.network.tasks} for clean in path]


def to_image(image: ImageLike) -> UInt8[Tensor, "3 h w"]:
    """Whatever a user may hand over as an RGB tensor in [0, 255].

    Raises:
        UserError: a path that is not a readable image.
        ValueError: an array or tensor of another shape or type.
    """
    if isinstance(image, str | Path):
        pixels: Any = files.read_image(Path(image))
    elif isinstance(image, Image.Image):
        pixels = files.rgb_pixels(image)
    elif isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"a tensor image must be [3 H W], not {list(image.shape)}")
        pixels = image.detach().cpu().permute(1, 2, 0).numpy()
    else:
        pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"an image must be [H W 3], not {list(pixels.shape)}")
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
            raise ValueError("a float image must lie in [0, 1]; pass uint8 for [0, 255]")
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ValueError(f"an image must be uint8 or float, not {pixels.dtype}")
    # A copy: what Pillow or a caller lent may be read-only, or written to while the prediction is kept.
    return torch.from_numpy(np.moveaxis(pixels, 2, 0).copy())
