"""``resnet20`` to ``resnet56``: the residual networks for CIFAR-10, pretrained, with a fresh head.

K. He, X. Zhang, S. Ren and J. Sun, Deep Residual Learning for Image Recognition, 2016, arXiv:1512.03385,
section 4.2, with shortcuts without parameters (option A). Inputs are pixels in [0, 1], grey or coloured, of
any size: they are resized to 32 x 32 and normalised as in the pretrained ones (mean and deviation of
ImageNet). The class layer is a fresh ``head`` for the task. ``resnet20`` reads ``resnet20.safetensors`` from the
folder of pretrained networks, ``resnet20:FILE`` another file, and ``scratch:resnet20`` none.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from idim.errors import RequestError
from idim.models.layers import dense
from idim.models.origin import file_digest, parted

FOLDER = "resnet_cifar10"
DIGESTS = {
    20: "24482c44070358a4",
    32: "5d0c1d4e1e111e00",
    44: "c858e7c458253953",
    56: "f126f1dbc4a9f2d1",
}  # BLAKE2b of the known files, by depth
DEPTHS = tuple(DIGESTS)
NAME = re.compile("resnet([0-9]+)")
SIDE, WIDTHS = 32, (16, 32, 64)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = "linear"  # the class layer in the files


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which halves the image and pads channels with zeros if need be."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.stride, self.missing = (1, 0) if channels == filters else (2, filters - channels)
        self.conv1, self.bn1 = _convolution(channels, filters, self.stride), _norm(filters)
        self.conv2, self.bn2 = _convolution(filters, filters, 1), _norm(filters)

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, filters, height / stride, width / stride]."""
        short = x[:, :, :: self.stride, :: self.stride]
        short = F.pad(short, (0, 0, 0, 0, self.missing // 2, self.missing // 2))
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(short + self.bn2(self.conv2(inner)))


class ResNet(nn.Module):
    """A residual network of 6 n + 2 layers for images, its weights unset.

    Args:
        depth: 20, 32, 44 or 56.
        outputs: values a row.
    """

    def __init__(self, depth: int, outputs: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        first, second, third = WIDTHS
        self.conv1, self.bn1 = _convolution(3, first, 1), _norm(first)
        self.layer1 = nn.Sequential(*(Block(first, first) for _ in range(blocks)))
        self.layer2 = nn.Sequential(Block(first, second), *(Block(second, second) for _ in range(blocks - 1)))
        self.layer3 = nn.Sequential(Block(second, third), *(Block(third, third) for _ in range(blocks - 1)))
        self.head = dense(third, outputs)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return [n, outputs] for pixels [n, 1 or 3, height, width] in [0, 1]."""
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(_normalised(pixels)))))))
        answer: Tensor = self.head(x.mean(dim=(2, 3)).to(self.head.weight.dtype))
        return answer


def build(
    name: str, file: Path | None, input_shape: tuple[int, ...], outputs: int, generator: torch.Generator
) -> ResNet:
    """Return the network of a name such as ``resnet20``, from a file, or drawn from ``generator`` without one.

    Raises:
        RequestError: for another depth, rows that are no images, or a file of another network.
    """
    if len(input_shape) != 3 or input_shape[0] not in (1, 3):
        raise RequestError(
            f"model {name!r} needs images of 1 or 3 channels; received rows of shape {list(input_shape)}"
        )
    net = ResNet(_depth(name.partition(":")[0]), outputs)
    _draw(net, generator)
    if file is not None:
        _fill(net, name.partition(":")[0], file)
    return net


def knows(name: str) -> bool:
    """Whether a name is that of a residual network."""
    return NAME.fullmatch(name.partition(":")[0]) is not None


def pin(name: str) -> str:
    """Return the name, with the hash of its file where it names one.

    Raises:
        RequestError: when that file is missing, or has changed since the name got its hash.
    """
    kind, _, place = name.partition(":")
    _depth(kind)
    if not place:
        return name
    place, wanted = parted(place)
    if not os.path.isfile(place):
        raise RequestError(f"model '{kind}:FILE' needs a safetensors file; received {place!r}, which does not exist")
    found = file_digest(Path(place))
    if wanted and wanted != found:
        raise RequestError(f"the file {place} must be as it was when the run was asked for, {wanted}; it is {found}")
    return f"{kind}:{place}@{found}"


def file_of(name: str, weights: Path | None) -> Path:
    """Return the file of weights: the one named, or the known one in ``resnet_cifar10`` of the folder ``weights``.

    Raises:
        RequestError: when it is missing, or is another one.
    """
    kind, _, place = pin(name).partition(":")
    if place:
        return Path(parted(place)[0])
    file = (weights or Path("models")) / FOLDER / f"{kind}.safetensors"
    if not file.is_file():
        raise RequestError(
            f"model {kind!r} needs {file.absolute()}, which does not exist; give '{kind}:FILE', "
            f"or the folder that holds {FOLDER} with the variable IDIM_MODELS"
        )
    if (found := file_digest(file)) != DIGESTS[_depth(kind)]:
        raise RequestError(f"{file} must be the known {kind}, {DIGESTS[_depth(kind)]}; received {found}")
    return file


def _depth(name: str) -> int:
    found = NAME.fullmatch(name)
    if not found or int(found[1]) not in DEPTHS:
        known = ", ".join(f"resnet{depth}" for depth in DEPTHS)
        raise RequestError(f"pretrained residual networks are {known}; received {name!r}")
    return int(found[1])


def _draw(net: ResNet, generator: torch.Generator) -> None:
    """Draw convolutions as He et al. did; the head small, so that first answers are near even."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    nn.init.normal_(net.head.weight, std=net.head.weight.shape[1] ** -0.5, generator=generator)
    nn.init.zeros_(net.head.bias)


def _fill(net: ResNet, name: str, file: Path) -> None:
    try:
        tensors = {key: t for key, t in load_file(file).items() if not key.startswith(f"{CLASSES}.")}
    except (OSError, SafetensorError) as error:
        raise RequestError(f"model {name!r} needs its safetensors file; received {file}: {error}") from error
    own = {key: t for key, t in net.state_dict().items() if not key.startswith("head.")}
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    differing = [key for key in own.keys() - counters if key not in tensors or tensors[key].shape != own[key].shape]
    if differing or tensors.keys() - own.keys():
        wrong = min(differing or tensors.keys() - own.keys())
        raise RequestError(f"the file {file} must hold the tensors of {name}; received another network: see {wrong!r}")
    net.load_state_dict(tensors, strict=False)


def _normalised(pixels: Tensor) -> Tensor:
    if pixels.shape[-2:] != (SIDE, SIDE):
        pixels = F.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    mean, deviation = (pixels.new_tensor(v).reshape(3, 1, 1) for v in (MEAN, DEVIATION))
    return (pixels - mean) / deviation


def _convolution(channels: int, filters: int, stride: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False, device="meta", dtype=torch.float32)
    return layer.to_empty(device="cpu")


def _norm(filters: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(filters)  # ones and zeros: draws nothing
