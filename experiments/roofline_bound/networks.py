"""Networks of published benchmarks, as modules: only their shapes matter here."""

from __future__ import annotations

from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (sides[0] // 2, sides[1] // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, sides, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(conv(inputs, inputs, 3, stride, inputs), conv(inputs, outputs, 1))


class Sum(nn.Module):
    """A branch and a shortcut."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + (x if self.shortcut is None else self.shortcut(x))


class Fire(nn.Module):
    """Of SqueezeNet; the two expansions run as one convolution of their summed width on the same input."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = conv(inputs, squeeze, 1)
        self.one, self.three = conv(squeeze, expand, 1), conv(squeeze, expand, 3)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        # A sum in place of the concatenation: as many bytes are written, and shapes stay those of one expansion.
        return self.one(squeezed) + self.three(squeezed)


def head(inputs: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]


def resnet8() -> nn.Module:
    """Image classification of MLPerf Tiny: 3x32x32, 12.5 M MACs."""

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        shortcut = None if stride == 1 and inputs == outputs else conv(inputs, outputs, 1, stride)
        return Sum(nn.Sequential(conv(inputs, outputs, 3, stride), conv(outputs, outputs)), shortcut)

    return nn.Sequential(conv(3, 16), block(16, 16, 1), block(16, 32, 2), block(32, 64, 2), *head(64, 10))


def ds_cnn() -> nn.Module:
    """Keyword spotting of MLPerf Tiny: 1x49x10, 2.7 M MACs."""
    stem = nn.Sequential(nn.Conv2d(1, 64, (10, 4), 2, (4, 1), bias=False), nn.BatchNorm2d(64), nn.ReLU())
    return nn.Sequential(stem, *[separable(64, 64) for _ in range(4)], *head(64, 12))


def mobilenet_v1(width: float, classes: int, inputs: int = 3) -> nn.Module:
    """3x96x96 with width 0.25 is the visual wake words of MLPerf Tiny: 7.5 M MACs; 3x224x224 with width 1: 569 M."""
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    channels = int(32 * width)
    layers = [conv(inputs, channels, 3, 2)]
    for outputs, stride in plan:
        layers.append(separable(channels, int(outputs * width), stride))
        channels = int(outputs * width)
    return nn.Sequential(*layers, *head(channels, classes))


def mobilenet_v2() -> nn.Module:
    """3x224x224, 300 M MACs."""
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    channels = 32
    layers: list[nn.Module] = [conv(3, 32, 3, 2)]
    for expansion, outputs, times, first in plan:
        for number in range(times):
            stride, inner = (first if number == 0 else 1), channels * expansion
            parts = [conv(channels, inner, 1)] if expansion > 1 else []
            parts += [conv(inner, inner, 3, stride, inner), nn.Conv2d(inner, outputs, 1), nn.BatchNorm2d(outputs)]
            branch = nn.Sequential(*parts)
            layers.append(Sum(branch) if stride == 1 and channels == outputs else branch)
            channels = outputs
    return nn.Sequential(*layers, conv(320, 1280, 1), *head(1280, 1000))


def squeezenet() -> nn.Module:
    """Like SqueezeNet 1.0, 3x224x224, about 0.85 G MACs."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 96, 7, 2), nn.ReLU()),
        nn.MaxPool2d(3, 2, 1),
        Fire(96, 16, 64), Fire(64, 16, 64), Fire(64, 32, 128), nn.MaxPool2d(3, 2, 1),
        Fire(128, 32, 128), Fire(128, 48, 192), Fire(192, 48, 192), Fire(192, 64, 256), nn.MaxPool2d(3, 2, 1),
        Fire(256, 64, 256), conv(256, 1000, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
