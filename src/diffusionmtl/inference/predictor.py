"""Predictions from a trained network: any image size, several noise draws, the same bits for the same seed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from diffusionmtl import files
from diffusionmtl.data.transforms import fit
from diffusionmtl.diffusion import NoiseSource, ScaledNoise, SeededNoise
from diffusionmtl.inference.bands import FINAL, INITIAL, Band, Estimates, bands
from diffusionmtl.inference.calibration import Calibration, class_entropy
from diffusionmtl.inference.prediction import Prediction, TaskPrediction
from diffusionmtl.inference.tiles import FieldNoise, Maps, Plan, Tiling, blended
from diffusionmtl.maps import resize
from diffusionmtl.models.network import Network
from diffusionmtl.seeds import derive_seed
from diffusionmtl.tasks import Task
from diffusionmtl.types import NetworkOutput

ImageLike = Path | str | np.ndarray | Image.Image | Tensor
Precision = Literal["fp32", "bf16"]


# An unfitted image of more pixels is seen in tiles unless its user says otherwise.
WHOLE = 4_000_000
DEFAULT_TILE = 1024
# An array of so many axes is several images.
_STACK = 4


class Predictor:
    """A trained network, ready for images.

    Attributes:
        network: in evaluation mode.
        size: images are shrunk or enlarged to fit inside this H, W before they are seen; None leaves them.
        precision: of convolutions and matrix products while it answers; answers are float32 always.
        noise_scale: what every draw of noise is multiplied by; 1 is the strength of training.
        calibration: what is known of its probabilities and spreads; None: they are given as they are.

    Args:
        quick: gives the answers instead of `network`, see `streamlined`; `network` itself if None. Later changes of
            `network` need not reach it.
    """

    def __init__(
        self,
        network: Network,
        size: tuple[int, int] | None,
        device: torch.device | str = "cpu",
        *,
        precision: Precision = "fp32",
        quick: Network | None = None,
        noise_scale: float = 1.0,
        calibration: Calibration | None = None,
    ) -> None:
        self.network = network.to(device).eval()
        self.size = size
        self.device = torch.device(device)
        self.precision = precision
        self.noise_scale = noise_scale
        self.calibration = calibration
        self._quick = self.network if quick is None else quick.to(device).eval()

    def __call__(
        self, image: ImageLike, samples: int = 1, seed: int = 0, *, tiling: Tiling | None = None, flip: bool = False
    ) -> Prediction:
        """Predict every task for one image.

        Args:
            image: a file's path, RGB array uint8 [H W 3] (or grey [H W], or float in [0, 1]), PIL image, or tensor
                [3 H W], uint8 or float in [0, 1]. A file or PIL image that says how it is to be turned (EXIF) is.
            samples: noise draws; with more than one, the prediction is their mean and comes with an uncertainty.
            seed: of the noise.
            tiling: see the image at its own resolution in overlapping tiles; whole, fitted into `size`, if None.
            flip: see its mirror image too, which doubles the draws. The uncertainty of a kind that states no
                probabilities is their spread then, also in a calibrated run.

        Raises:
            UserError: the file is not a readable image.
            ValueError: an array or tensor of another shape, or no samples.
        """
        original = to_image(image)
        seen = list(self.bands(original, samples, seed, tiling=tiling, flip=flip, initial=True))
        if not flip:
            seen = [self.calibrated(band) for band in seen]
        calibration = self.calibration_for(flip)
        fitted = {} if calibration is None else calibration.tasks
        found = {task.name: _joined(task, [band.tasks[task.name] for band in seen]) for task in self.tasks}
        return Prediction(
            image=original, tasks={name: replace(task, fitted=fitted.get(name)) for name, task in found.items()}
        )

    def calibration_for(self, flip: bool) -> Calibration | None:
        """What the calibration, if there is one, says of answers with or without a mirror image."""
        return self.calibration.without_spreads() if flip and self.calibration is not None else self.calibration

    def calibrated(self, band: Band) -> Band:
        """The same, with the error to expect in place of the spread, where a calibration says what that is.

        It speaks of draws for one image, not of those that its mirror image joins (`flip`).
        """
        if self.calibration is None:
            return band
        found = dict(band.tasks)
        classes = class_entropy((task, found[task.name].mean) for task in self.tasks)
        for task in self.tasks:
            part = found[task.name]
            if part.spread is not None:
                expected = self.calibration.expected_error(task, part.mean, part.spread, classes)
                found[task.name] = replace(part, spread=expected)
        return replace(band, tasks=found)

    def bands(
        self,
        image: UInt8[Tensor, "3 h w"],
        samples: int = 1,
        seed: int = 0,
        *,
        tiling: Tiling | None = None,
        flip: bool = False,
        initial: bool = False,
    ) -> Iterator[Band]:
        """What `__call__` gives, in rows from top to bottom: memory does not grow with the height of the image.

        Args:
            initial: also what was estimated before refinement.

        Raises:
            ValueError: no samples.
        """
        if samples < 1:
            raise ValueError(f"samples must be at least 1, not {samples}")
        size = (image.shape[-2], image.shape[-1])
        seen = image if self.size is None or tiling is not None else fit(image, self.size)
        network = self.network.initial
        plan = Plan.of((seen.shape[-2], seen.shape[-1]), tiling, network.multiple, network.grid_stride)
        wanted = (FINAL, INITIAL) if initial and self.network.refiner is not None else (FINAL,)
        views = [(seen, "sample"), (seen.flip(-1), "mirrored sample")][: 2 if flip else 1]

        def look(view: Tensor, word: str) -> Iterator[Maps]:
            seeds = [derive_seed(seed, word, sample) for sample in range(samples)]
            return blended(plan, lambda *box: self._look(view, plan, box, seeds, wanted, tiling is not None))

        return bands(self.network.tasks, plan, size, [look(*view) for view in views])

    def tiling_for(self, size: tuple[int, int]) -> Tiling | None:
        """How an image of H, W is best seen if nobody says so: in tiles if it is large and nothing shrinks it."""
        large = self.size is None and size[0] * size[1] > WHOLE
        return Tiling((DEFAULT_TILE, DEFAULT_TILE), DEFAULT_TILE // 4) if large else None

    @torch.inference_mode()
    def _look(
        self,
        image: UInt8[Tensor, "3 h w"],
        plan: Plan,
        box: tuple[int, int, int, int],
        seeds: Sequence[int],
        wanted: Sequence[str],
        field: bool,
    ) -> Maps:
        """Raw outputs [draws c h w] of one tile; what it reaches beyond the image is padded by the network."""
        top, left, bottom, right = box
        cells = (top // plan.stride, left // plan.stride)
        noises = [FieldNoise(seed, *cells) if field else SeededNoise(seed, [0]) for seed in seeds]
        outputs = self._outputs(image[None, :, top:bottom, left:right], noises)
        found = {(FINAL, task.name): torch.cat([output.final[task.name] for output in outputs]) for task in self.tasks}
        if INITIAL in wanted:
            found |= {(INITIAL, task.name): outputs[0].initial[task.name] for task in self.tasks}
        return {key: raw.float() for key, raw in found.items()}

    def _outputs(self, image: UInt8[Tensor, "b 3 h w"], noises: Sequence[NoiseSource]) -> list[NetworkOutput]:
        """One per draw; the backbone and the initial network run once for all, and all of it once without refiner."""
        with self._arithmetic():
            initial = self._quick.initial(image.to(self.device))
            used = noises if self._quick.refiner is not None else noises[:1]
            return [self._quick.finish(initial, ScaledNoise(noise, self.noise_scale)) for noise in used]

    def _arithmetic(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def __repr__(self) -> str:
        seen = "any size" if self.size is None else f"images fitted into {self.size[0]}x{self.size[1]}"
        return f"Predictor({', '.join(task.name for task in self.tasks)}; {seen}; on {self.device})"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Those of the network."""
        return self.network.tasks

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
        outputs = self._drawn(image, keys, samples, seed)
        found: dict[str, Estimates] = {}
        for task in self.tasks:
            draws = _draws(task, outputs, size)
            before = outputs[0].initial.get(task.name)
            found[task.name] = Estimates(
                mean=draws.mean(dim=0),
                spread=task.spread(draws) if len(draws) > 1 else None,
                initial=None if before is None else task.activate(_enlarged(before, outputs[0], size)),
            )
        return found

    def draws(
        self,
        image: UInt8[Tensor, "b 3 h w"],
        keys: Sequence[int],
        samples: int,
        seed: int,
        size: tuple[int, int] | None = None,
    ) -> Iterator[tuple[Task, Float[Tensor, "s b a H W"]]]:
        """What `estimate` takes the means of, one task after the other."""
        outputs = self._drawn(image, keys, samples, seed)
        for task in self.tasks:
            yield task, _draws(task, outputs, size)

    @torch.inference_mode()
    def _drawn(self, image: Tensor, keys: Sequence[int], samples: int, seed: int) -> list[NetworkOutput]:
        if samples < 1:
            raise ValueError(f"samples must be at least 1, not {samples}")
        return self._outputs(
            image, [SeededNoise(derive_seed(seed, "sample", sample), keys) for sample in range(samples)]
        )

    def steps(self, image: ImageLike, seed: int = 0) -> list[Mapping[str, Tensor]]:
        """What each denoising step would have answered, first to last: per task, values [c h w] at the size seen.

        Empty for a network without refinement.
        """
        refiner = self._quick.refiner
        if refiner is None:
            return []
        original = to_image(image)
        seen = original if self.size is None else fit(original, self.size)
        path: list[Mapping[str, Any]] = []
        with torch.inference_mode(), self._arithmetic():
            initial = self._quick.initial(seen[None].to(self.device))
            noise = ScaledNoise(SeededNoise(derive_seed(seed, "sample", 0), [0]), self.noise_scale)
            self._quick.finish(initial, noise, watch=lambda step, noisy, clean: path.append(dict(clean)))

            def answer(task: Task, clean: Tensor) -> Tensor:
                raw = initial.canvas.to_image(refiner.signal.read(task.name, clean).float())
                return task.value(task.activate(raw))[0]

            return [{task.name: answer(task, clean[task.name]) for task in self.network.tasks} for clean in path]


@torch.inference_mode()
def _draws(task: Task, outputs: Sequence[NetworkOutput], size: tuple[int, int] | None) -> Float[Tensor, "s b a H W"]:
    return torch.stack([task.activate(_enlarged(output.final[task.name], output, size)) for output in outputs])


def _enlarged(raw: Tensor, output: NetworkOutput, size: tuple[int, int] | None) -> Float[Tensor, "b c H W"]:
    """At H, W; at the size of what was seen if None."""
    whole = output.canvas.to_image(raw.float())
    return whole if size is None else resize(whole, size)


def _joined(task: Task, parts: Sequence[Estimates]) -> TaskPrediction:
    def rows(of: Sequence[Tensor | None]) -> Tensor | None:
        known = [x[0] for x in of if x is not None]
        return torch.cat(known, dim=-2) if known else None

    mean = rows([part.mean for part in parts])
    assert mean is not None
    return TaskPrediction(
        task=task,
        estimate=mean,
        uncertainty=rows([part.spread for part in parts]),
        initial=rows([part.initial for part in parts]),
    )


def _check_one(image: Any) -> None:
    """Say how to go on with what holds several images, or one that nobody has opened."""
    if isinstance(image, bytes | bytearray | memoryview) or hasattr(image, "read"):
        raise ValueError(
            f"an image must be a path, array, tensor or PIL image, not {type(image).__name__}; open it with PIL: "
            f"Image.open({'file' if hasattr(image, 'read') else 'io.BytesIO(data)'})"
        )
    listed = isinstance(image, list | tuple) and any(
        isinstance(x, str | Path | Image.Image | Tensor) or np.ndim(x) == _STACK - 1 for x in image
    )
    if listed or np.ndim(image) == _STACK:
        raise ValueError("one image at a time; loop over them, or use diffusionmtl predict for whole folders")


def to_image(image: Any) -> UInt8[Tensor, "3 h w"]:
    """Whatever a user may hand over as an RGB tensor in [0, 255].

    Raises:
        UserError: a path that is not a readable image.
        ValueError: an array or tensor of another shape or type.
    """
    if isinstance(image, str | Path):
        pixels: Any = files.read_image(Path(image))
    elif isinstance(image, Image.Image):
        # Pillow opens a photograph as the camera held it; a path is turned upright too.
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        pixels = files.rgb_pixels(ImageOps.exif_transpose(image) if turned else image)
    elif isinstance(image, Tensor):
        _check_one(image)
        if image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"a tensor image must be [3 H W], not {list(image.shape)}")
        pixels = image.detach().cpu().permute(1, 2, 0).numpy()
    else:
        _check_one(image)
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
