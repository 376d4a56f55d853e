"""Crops of photographs that packages ship, with real features of what they show, as stimuli.

Each photograph is divided into tiles that do not overlap; a stimulus is a crop inside one tile, so
crops of different tiles share no pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from neuropipe.encoders import lite0, minilm, shipped
from neuropipe.errors import ConfigError
from neuropipe.runtime import generator

PHOTOGRAPHS: dict[str, tuple[str, str, str]] = {
    "astronaut": ("skimage", "data/astronaut.png", "an astronaut in front of a flag"),
    "brick": ("skimage", "data/brick.png", "a brick wall"),
    "camera": ("skimage", "data/camera.png", "a man with a camera on a lawn"),
    "cell": ("skimage", "data/cell.png", "a cell under a microscope"),
    "chelsea": ("skimage", "data/chelsea.png", "a tabby cat"),
    "china": ("sklearn", "datasets/images/china.jpg", "a Chinese temple"),
    "coffee": ("skimage", "data/coffee.png", "a cup of coffee on a wooden table"),
    "coins": ("skimage", "data/coins.png", "old coins"),
    "flower": ("sklearn", "datasets/images/flower.jpg", "a red flower in a garden"),
    "grass": ("skimage", "data/grass.png", "grass"),
    "gravel": ("skimage", "data/gravel.png", "gravel"),
    "hubble": ("skimage", "data/hubble_deep_field.jpg", "distant galaxies"),
    "moon": ("skimage", "data/moon.png", "the surface of the moon"),
    "motorcycle": ("skimage", "data/motorcycle_left.png", "a motorcycle in a garage"),
    "retina": ("skimage", "data/retina.jpg", "the retina of an eye"),
    "rocket": ("skimage", "data/rocket.jpg", "a rocket on its launch pad"),
    "tissue": ("skimage", "data/ihc.png", "stained tissue under a microscope"),
}
LEAST_TILE = 128  # pixels
TILES_A_SIDE = 4  # of the shorter one, at most
CROPS_A_TILE = 3
LEAST_CROP = 0.7  # of the tile's side
PICTURE = 64  # pixels a side, as kept
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


class Crop(NamedTuple):
    """A square of a photograph, inside one of its tiles."""

    name: str
    photograph: str
    tile: str
    caption: str
    top: int
    left: int
    side: int


class Shown(NamedTuple):
    """What one subject saw.

    ``latent (stimulus, latent)``, ``image`` and ``text (stimulus, feature)``, ``picture
    (stimulus, y, x, 3)``.
    """

    crops: list[Crop]
    latent: np.ndarray
    image: np.ndarray
    text: np.ndarray
    picture: np.ndarray

    def about(self) -> dict[str, np.ndarray]:
        """Return the names of the stimuli, and of the tiles and photographs that hold them."""
        columns = {"stimulus": "name", "tile": "tile", "photograph": "photograph"}
        return {
            column: np.array([getattr(crop, field) for crop in self.crops], dtype=object)
            for column, field in columns.items()
        }


def opened(name: str) -> np.ndarray:
    """Return a photograph, (y, x, 3) of 0 to 255.

    Raises
    ------
    BackendUnavailable
        If the package that ships it is not installed.
    """
    from PIL import Image

    package, member, _ = PHOTOGRAPHS[name]
    [path] = shipped(package, member)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def tiles(name: str, shape: tuple[int, int]) -> list[Crop]:
    """Return the tiles of a photograph of (y, x) pixels: squares side by side in its middle."""
    side = max(LEAST_TILE, min(shape) // TILES_A_SIDE)
    n = [size // side for size in shape]
    first = [(size - k * side) // 2 for size, k in zip(shape, n, strict=True)]
    said = PHOTOGRAPHS[name][2]
    return [
        Crop(
            f"{name}{i}{j}", name, f"{name}{i}{j}",
            f"{ROWS[3 * i // n[0]]} {COLUMNS[3 * j // n[1]]} of a photograph of {said}",
            first[0] + i * side, first[1] + j * side, side,
        )
        for i in range(n[0])
        for j in range(n[1])
    ]  # fmt: skip


def all_crops(whole: list[Crop], seed: int) -> list[Crop]:
    """Return crops of every tile, in an order that the seed decides."""
    rng = generator(seed, "crops")
    found = []
    for tile in whole:
        for number in range(CROPS_A_TILE):
            side = math.ceil(tile.side * rng.uniform(LEAST_CROP, 1))
            top, left = (at + int(rng.integers(tile.side - side + 1)) for at in tile[4:6])
            found.append(tile._replace(name=f"{tile.tile}x{number}", top=top, left=left, side=side))
    return [found[i] for i in rng.permutation(len(found))]


def cut(crops: list[Crop], photographs: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the pixels of crops."""
    for c in crops:
        yield photographs[c.photograph][c.top : c.top + c.side, c.left : c.left + c.side]


def encoded(
    crops: list[Crop], photographs: dict[str, np.ndarray], said: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return features of crops (crop, 1280) and of their captions (crop, 384)."""
    image = np.concatenate(list(lite0.features(cut(crops, photographs))))
    return image, np.stack([said[c.caption] for c in crops])


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def shown(subject: int, n_own: int, n_shared: int, n_latent: int, seed: int) -> Shown:
    """Return what a subject sees: crops that all see first, then those that it alone does.

    Latents are the leading principal components of features of image and caption side by side,
    each of length 1, of variance 1 over whole tiles.

    Raises
    ------
    BackendUnavailable
        If packages of the extra `encoders` are not installed.
    ConfigError
        If the photographs have too few crops, or tiles.
    """
    from PIL import Image

    pictures = {name: opened(name) for name in PHOTOGRAPHS}
    whole = [tile for name, p in pictures.items() for tile in tiles(name, p.shape[:2])]
    crops = all_crops(whole, seed)
    start = n_shared + (subject - 1) * n_own
    if start + n_own > len(crops) or n_latent >= len(whole):
        raise ConfigError(
            f"stimuli photographs: {len(crops)} crops of {len(whole)} tiles, expected "
            f"{start + n_own} and more tiles than n_latent {n_latent}; lower n_own"
        )
    own = [*crops[:n_shared], *crops[start : start + n_own]]
    captions = sorted({tile.caption for tile in whole})
    said = dict(zip(captions, np.concatenate(list(minilm.features(captions))), strict=True))
    reference = np.concatenate([_unit(x) for x in encoded(whole, pictures, said)], 1)
    image, text = encoded(own, pictures, said)
    mean = reference.mean(0)
    _, length, basis = np.linalg.svd(reference - mean, full_matrices=False)
    both = np.concatenate([_unit(image), _unit(text)], 1) - mean
    sd = length[:n_latent] / math.sqrt(len(whole))
    small = [
        np.asarray(Image.fromarray(p).resize((PICTURE, PICTURE), Image.Resampling.BILINEAR))
        for p in cut(own, pictures)
    ]
    return Shown(own, both @ basis[:n_latent].T / sd, image, text, np.stack(small))
