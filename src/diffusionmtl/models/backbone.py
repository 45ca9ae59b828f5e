"""Any timm network as a feature pyramid."""

import math
from collections.abc import Sequence
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusionmtl.errors import UserError, in_one_line, nearest

FINEST_STRIDE = 4
COARSEST_GRID = 512
# Transformers take pictures of one size unless told otherwise; timm has had two words for it.
ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})


class Backbone(nn.Module):
    """A pyramid of feature maps that announces what it gives.

    Attributes:
        channels: per map, finest first.
        strides: per map, pixels of the image per cell.
        mean: per channel, of images in [0, 1], as its pretrained weights expect.
        std: likewise.
        channels_last: whether the body gives maps [B h w c], as Swin does.
    """

    def __init__(
        self,
        body: nn.Module,
        channels: Sequence[int],
        strides: Sequence[int],
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.body = body
        self.channels = tuple(channels)
        self.strides = tuple(strides)
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.channels_last = channels_last

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Normalised images to maps [B c_i h/s_i w/s_i], finest first."""
        maps = self.body(image)
        return [x.permute(0, 3, 1, 2) for x in maps] if self.channels_last else maps


def timm_backbone(name: str, pretrained: bool = False) -> Backbone:
    """Build the backbone that timm calls `name`, without its classifier.

    Maps finer than stride 4 are left out: nothing downstream is that fine. Plain vision transformers give three maps of
    one stride.

    Args:
        name: any of `timm.list_models()` that gives feature maps; `resnet18` for the published one.
        pretrained: fetch timm's weights from the hub; needs a network connection.

    Raises:
        UserError: timm has no such network (the nearest name is suggested), it gives no feature maps or does not take
            images of any size, or its weights cannot be fetched.
    """
    if not timm.is_model(name):
        raise UserError(f"--backbone {name}: timm has no such network.{nearest(name, timm.list_models())}")
    try:
        body = _create(name, pretrained)
    except (RuntimeError, ValueError, AttributeError, AssertionError, KeyError, TypeError) as error:
        raise UserError(
            f"--backbone {name}: gives no feature maps ({in_one_line(error)}); choose another, e.g. resnet18"
        ) from error
    except OSError as error:
        raise UserError(
            f"--backbone {name}: its weights could not be fetched ({in_one_line(error)}); download them and use "
            "--backbone-weights FILE"
        ) from error
    info: Any = body.feature_info
    config = getattr(body, "pretrained_cfg", None) or {}
    backbone = Backbone(
        body,
        info.channels(),
        info.reduction(),
        config.get("mean") or (0.485, 0.456, 0.406),
        config.get("std") or (0.229, 0.224, 0.225),
        channels_last=getattr(body, "output_fmt", "NCHW") == "NHWC",
    )
    _check_any_size(backbone, name)
    return backbone


def published_weights(name: str) -> tuple[str, str | None]:
    """What `pretrained` fetches for a backbone: its name, and the identifier of its licence if timm knows it."""
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None:
        return name, None
    return config.hf_hub_id or name, config.license


def _create(name: str, pretrained: bool) -> nn.Module:
    # Sizes are the same without weights, so those that are fetched are read once.
    body, option = _first_that_fits(name)
    info: Any = body.feature_info
    strides = dict(zip(info.out_indices, info.reduction(), strict=True))
    keep = [index for index, stride in strides.items() if stride >= FINEST_STRIDE]
    if len(keep) < len(strides):
        option = {**option, "out_indices": keep}
    elif not pretrained:
        return body
    return timm.create_model(name, pretrained=pretrained, features_only=True, **option)


def _first_that_fits(name: str) -> tuple[nn.Module, dict[str, Any]]:
    for option in ANY_SIZE:
        try:
            return timm.create_model(name, features_only=True, **option), option
        except TypeError:  # not a word that this network knows
            continue
    return timm.create_model(name, features_only=True), {}


def _check_any_size(backbone: Backbone, name: str) -> None:
    multiple = math.lcm(32, *backbone.strides)
    if multiple > COARSEST_GRID:
        raise UserError(
            f"--backbone {name}: its strides {', '.join(map(str, backbone.strides))} share no grid; "
            "choose another, e.g. resnet18"
        )
    height, width = multiple, 2 * multiple
    training = backbone.training
    try:
        with torch.no_grad():
            maps = backbone.eval()(torch.zeros(1, 3, height, width))
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        raise UserError(
            f"--backbone {name}: does not take images of any size ({' '.join(str(error).split())[:100]}); "
            "choose another, e.g. resnet18"
        ) from None
    finally:
        backbone.train(training)
    expected = [(c, height // s, width // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)]
    if [tuple(x.shape[1:]) for x in maps] != expected:
        raise UserError(
            f"--backbone {name}: its maps do not follow the size of the image; choose another, e.g. resnet18"
        )
