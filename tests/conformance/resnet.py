"""A ResNet of any width: the published backbone is timm's `resnet18`, its recorded miniatures are thinner."""

from collections.abc import Sequence

from torch import nn
from torchvision.models.resnet import BasicBlock

from diffusionmtl.models.backbone import Backbone

STRIDES = (4, 8, 16, 32)


class ThinResNet(nn.Module):
    """Four stages of basic blocks after a 7x7 stem as wide as the first stage; weights are named as torchvision's."""

    def __init__(self, channels: Sequence[int], blocks: Sequence[int] = (2, 2, 2, 2)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        before = channels[0]
        for index, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            stride = 1 if index == 0 else 2
            first = BasicBlock(before, width, stride, _shortcut(before, width, stride))
            rest = [BasicBlock(width, width) for _ in range(count - 1)]
            self.add_module(f"layer{index + 1}", nn.Sequential(first, *rest))
            before = width

    def forward(self, image):
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        maps = []
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{stage}")(x)
            maps.append(x)
        return maps


def _shortcut(before: int, width: int, stride: int) -> nn.Module | None:
    if stride == 1 and before == width:
        return None
    return nn.Sequential(nn.Conv2d(before, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))


def thin_backbone(channels: Sequence[int], blocks: Sequence[int] = (2, 2, 2, 2)) -> Backbone:
    """A backbone for images that are normalised already."""
    return Backbone(ThinResNet(channels, blocks), channels, STRIDES, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
