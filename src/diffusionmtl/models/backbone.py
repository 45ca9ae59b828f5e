"""Any timm network as a feature pyramid."""

import warnings
from collections.abc import Sequence
from typing import Any

import timm
from jaxtyping import Float
from torch import Tensor, nn

from diffusionmtl.errors import UserError, nearest


class Backbone(nn.Module):
    """A pyramid of feature maps that announces what it gives.

    Attributes:
        channels: per map, finest first.
        strides: per map, pixels of the image per cell.
        mean: per channel, of images in [0, 1], as its pretrained weights expect.
        std: likewise.
    """

    def __init__(
        self,
        body: nn.Module,
        channels: Sequence[int],
        strides: Sequence[int],
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        self.body = body
        self.channels = tuple(channels)
        self.strides = tuple(strides)
        self.mean = tuple(mean)
        self.std = tuple(std)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Normalised images to maps [B c_i h/s_i w/s_i], finest first."""
        return self.body(image)


def timm_backbone(name: str, pretrained: bool = False) -> Backbone:
    """Build the backbone that timm calls `name`, without its classifier.

    Maps finer than stride 4 are left out: nothing downstream is that fine.

    Args:
        name: any of `timm.list_models()` that gives feature maps; `resnet18` for the published one.
        pretrained: fetch timm's weights from the hub; needs a network connection.

    Raises:
        UserError: timm has no such network (the nearest name is suggested), or it gives no feature maps, or its
            weights cannot be fetched.
    """
    if not timm.is_model(name):
        raise UserError(f"--backbone {name}: timm has no such network.{nearest(name, timm.list_models())}")
    try:
        body = _create(name, pretrained)
    except (RuntimeError, ValueError, AttributeError, AssertionError, KeyError, TypeError) as error:
        raise UserError(f"--backbone {name}: gives no feature maps ({error}); choose another, e.g. resnet18") from error
    except OSError as error:
        raise UserError(
            f"--backbone {name}: its weights could not be fetched ({error}); download them and use --backbone-weights"
        ) from error
    info: Any = body.feature_info
    config = getattr(body, "pretrained_cfg", None) or {}
    _warn_of_licence(name, config, pretrained)
    return Backbone(
        body,
        info.channels(),
        info.reduction(),
        config.get("mean") or (0.485, 0.456, 0.406),
        config.get("std") or (0.229, 0.224, 0.225),
    )


def _create(name: str, pretrained: bool) -> nn.Module:
    body = timm.create_model(name, pretrained=pretrained, features_only=True)
    info: Any = body.feature_info
    keep = [i for i, stride in enumerate(info.reduction()) if stride >= 4]
    if len(keep) < len(info.reduction()):
        body = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=keep)
    return body


def _warn_of_licence(name: str, config: dict, pretrained: bool) -> None:
    licence = str(config.get("license") or "unknown")
    if pretrained and not licence.lower().startswith(("apache", "mit", "bsd")):
        warnings.warn(f"the pretrained weights of {name} come under the licence '{licence}'", stacklevel=3)
