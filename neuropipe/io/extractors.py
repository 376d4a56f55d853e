"""Images and captions to features: named extractors that say what they need when it is absent."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from pydantic import ValidationError, validate_call

from neuropipe import __version__
from neuropipe.errors import BackendUnavailable, ConfigError, ReaderError
from neuropipe.io.embedding import EMBEDDING, STIMULUS
from neuropipe.io.sidecars import read_table
from neuropipe.registry import resolve

log = logging.getLogger(__name__)

EXTRACTORS: dict[str, str] = {
    "pixels": "neuropipe.io.extractors:pixels",
    "clip": "neuropipe.io.extractors:clip",
    "lite0": "neuropipe.io.extractors:lite0",
    "minilm": "neuropipe.io.extractors:minilm",
}
OF_TEXT = ("minilm",)  # the others take images
IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
BATCH = 32


def extractor(name: str) -> Callable[..., Iterator[np.ndarray]]:
    """Return the `extract(images, **options)` of a name; an unknown one lists the known.

    Those of `OF_TEXT` take captions instead of images.
    """
    return resolve(name, EXTRACTORS, "embedding: extractor")


def write_embedding(folder: str | Path, path: str | Path, *, name: str, **options) -> Path:
    """Compute features of images or captions and write the file that `embedding` reads.

    Parameters
    ----------
    folder : of images; a stimulus is called by its file's name without ending. For captions a
        table (`.tsv`) with columns ``stimulus`` and ``caption``
    path : `.h5` file to write, whole or not at all
    name : an entry of `EXTRACTORS`
    **options : of that extractor

    Raises
    ------
    ReaderError
        No image or caption there, two of one name, or one that cannot be read.
    BackendUnavailable
        The extractor lacks a package or its weights.
    ConfigError
        An option is unknown or of the wrong kind.
    """
    folder, path = Path(folder), Path(path)
    extract = extractor(name)
    stimuli, images = (_captions if name in OF_TEXT else _images)(folder)
    if len(set(stimuli)) < len(stimuli):
        twice = next(one for one in stimuli if stimuli.count(one) > 1)
        raise ReaderError(
            f"{folder}: two {'captions' if name in OF_TEXT else 'images'} are called {twice!r}, "
            "expected names of their own"
        )
    try:
        blocks = validate_call(extract)(images, **options)
    except ValidationError as error:
        faults = [f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError(f"embedding: extractor {name!r}: " + "; ".join(faults)) from None
    partial = path.with_name(f".{path.name}.partial")
    try:
        with h5py.File(partial, "w") as file:
            file.create_dataset(STIMULUS, data=stimuli, dtype=h5py.string_dtype())
            at = 0
            for block in blocks:
                if at == 0:
                    shape = (len(images), block.shape[1])
                    out = file.create_dataset(EMBEDDING, shape, np.float32)
                out[at : at + len(block)] = block
                at += len(block)
            file.attrs.update(extractor=name, version=__version__)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    log.info("%s: %d stimuli by %s", path, len(images), name)
    return path


def _images(folder: Path) -> tuple[list[str], list[Path]]:
    images = sorted(p for p in folder.glob("[!.]*") if p.suffix.lower() in IMAGES)
    if not images:
        raise ReaderError(
            f"{folder}: found no image, expected files ending in {', '.join(IMAGES)}; check it"
        )
    return [image.stem for image in images], images


def _captions(path: Path) -> tuple[list[str], list[str]]:
    if not path.is_file():
        raise ReaderError(
            f"{path}: found no file, expected a table (.tsv) with columns stimulus and caption"
        )
    rows = read_table(path, "stimulus", "caption").fillna("")
    if not len(rows) or (rows["caption"] == "").any():
        raise ReaderError(f"{path}: found {len(rows)} rows, expected a caption in each of several")
    return rows["stimulus"].tolist(), rows["caption"].tolist()


def pixels(images: Sequence[Path], *, size: int = 16) -> Iterator[np.ndarray]:
    """Yield (image, size * size) grey levels from 0 to 1: what any richer feature has to beat."""
    for start in range(0, len(images), BATCH):
        opened = [_opened(image).convert("L") for image in images[start : start + BATCH]]
        grey = [np.asarray(one.resize((size, size)), np.float32) / 255 for one in opened]
        yield np.stack(grey).reshape(len(grey), -1)


def clip(
    images: Sequence[Path], *, weights: str | Path, device: str = "cpu"
) -> Iterator[np.ndarray]:
    """Yield (image, feature) of CLIP's image tower, from weights that are on disk.

    Parameters
    ----------
    weights : folder of a CLIP model as transformers saves it, with safetensors
    device : of torch

    Notes
    -----
    Nothing is downloaded. Pickled weights (`.bin`) are not read: they run code when loaded.

    Source: Radford et al. 2021, Learning transferable visual models from natural language
    supervision.
    """
    folder = Path(weights)
    lacking = [package for package in ("torch", "transformers") if find_spec(package) is None]
    absent = [
        name
        for name in ("config.json", "preprocessor_config.json", "model.safetensors")
        if not (folder / name).is_file()
    ]
    if lacking or absent:
        missing = [f"package {one}" for one in lacking] + [f"{folder / one}" for one in absent]
        raise BackendUnavailable(
            f"embedding: extractor 'clip' lacks {', '.join(missing)}; install the package, and "
            "save a CLIP model there with save_pretrained(..., safe_serialization=True), or give "
            "the features as a file (option embedding)"
        )
    return _clip(images, folder, device)


def _clip(images: Sequence[Path], folder: Path, device: str) -> Iterator[np.ndarray]:
    import torch
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    # the image tower alone; use_safetensors refuses pickled weights
    processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    model: Any = CLIPVisionModelWithProjection.from_pretrained(
        folder, local_files_only=True, use_safetensors=True
    )
    model = model.to(device).eval()
    for start in range(0, len(images), BATCH):
        opened = [_opened(image).convert("RGB") for image in images[start : start + BATCH]]
        inputs = processor(images=opened, return_tensors="pt").to(device)
        with torch.inference_mode():
            yield model(**inputs).image_embeds.float().cpu().numpy()


def lite0(
    images: Sequence[Path], *, layer: Literal["pooled", "grid", "classes"] = "pooled"
) -> Iterator[np.ndarray]:
    """Yield (image, feature) of EfficientNet-Lite0, whose weights the extra `encoders` brings.

    Parameters
    ----------
    layer : ``pooled``, 1280 features; ``grid``, 49 places x 320; ``classes``, 1000 of ImageNet
    """
    from neuropipe.encoders.lite0 import features

    return features((np.asarray(_opened(image).convert("RGB")) for image in images), layer)


def minilm(captions: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield (caption, 384) of MiniLM, whose weights the extra `encoders` brings."""
    from neuropipe.encoders.minilm import features

    return features(captions)


def _opened(path: Path):
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.copy()
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise ReaderError(f"{path}: found no image ({error}), expected one; get it again") from (
            error
        )
