"""Pictures from predicted embeddings: the nearest of a gallery, or drawn by a diffusion model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuropipe.errors import BackendUnavailable, DataError
from neuropipe.models.mindbridge.gallery import Encoder, retrieved
from neuropipe.retrieval import cosines
from neuropipe.runtime import generator

HEADS = {"image": "image_embeds", "text": "prompt_embeds"}  # what pipelines of diffusers take


def open_pipeline(folder: str | Path, device: str = "cpu") -> Any:
    """Return a pipeline of diffusers from a folder that it was saved in; nothing is downloaded.

    Raises
    ------
    BackendUnavailable
        If diffusers is not installed or the folder holds no pipeline; pickled weights are not read.
    """
    folder = Path(folder)
    if find_spec("diffusers") is None:
        raise BackendUnavailable(
            "reconstruct: lacks package diffusers; install neuropipe's extra `diffusion`"
        )
    if not (folder / "model_index.json").is_file():
        raise BackendUnavailable(
            f"reconstruct: {folder} has no model_index.json; save a pipeline there with "
            "save_pretrained(..., safe_serialization=True)"
        )
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(
        folder, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def reconstruct(
    estimates: xr.Dataset,
    *,
    seed: int,
    gallery: xr.Dataset | None = None,
    pipeline: Any = None,
    encode: Encoder | None = None,
    center: np.ndarray | None = None,
    length: Mapping[str, float] | None = None,
    n_candidates: int = 8,
    **options: Any,
) -> xr.Dataset:
    """Return a picture for each decoded trial.

    Parameters
    ----------
    estimates : Dataset
        From `MindBridge.transform`: ``predicted_image (trial, feature)`` and perhaps
        ``predicted_text``.
    seed : int
        Of the noise that a pipeline starts from, another one for each trial and candidate.
    gallery : Dataset, optional
        ``frame_color (frame, y, x, color)`` and ``embedding (frame, feature)`` of known pictures,
        of which the nearest is taken. What is used without a pipeline.
    pipeline : optional
        Of diffusers, from `open_pipeline`: one that takes ``image_embeds`` (Kandinsky 2.2, Stable
        unCLIP) or ``prompt_embeds`` (Stable Diffusion), or both; the heads must have been trained
        on the embeddings that it knows.
    encode : callable, optional
        Pictures (picture, y, x, color) to embeddings of the image head. With it the candidate that
        is nearest to the **predicted** embedding is taken; without it one is drawn.
    center : (feature,), optional
        Mean training embedding of length 1, about which nearness is measured.
    length : mapping of head to float, optional
        What predictions, of about length 1, are multiplied with for the pipeline.
    n_candidates : int
        Pictures to choose among.
    **options
        Of the pipeline's call, such as ``num_inference_steps``, ``guidance_scale``, ``height``.

    Returns
    -------
    Dataset
        ``picture (trial, y, x, color)`` of 0 to 255 and ``likeness (trial)``, the cosine of its
        embedding with the predicted one; NaN where nothing encodes pictures.

    Raises
    ------
    DataError
        If there is neither gallery nor pipeline, or the pipeline takes none of the predictions.

    Notes
    -----
    The authors draw with Versatile Diffusion, zeros as unconditional embeddings (as here), the same
    noise for every image, and keep the candidate that is most like the **true** image; here the
    truth is never seen. Runs where the pipeline is.
    """
    guess = estimates["predicted_image"].values.astype(float)
    middle = np.zeros(guess.shape[1]) if center is None else np.asarray(center, float)
    if pipeline is None:
        if gallery is None:
            raise DataError("reconstruct: expected a gallery of pictures or a pipeline")
        code = gallery["embedding"].values.astype(float)
        row = retrieved(guess, code, middle)
        pictures = gallery["frame_color"].values[row]
        unit = code[row] / np.maximum(np.linalg.norm(code[row], axis=1, keepdims=True), 1e-12)
        likeness = [cosines(g[None], c[None])[0, 0] for g, c in zip(guess - middle, unit - middle,
                                                                     strict=True)]  # fmt: skip
    else:
        drawn = [
            _best(
                _drawn(pipeline, _conditions(pipeline, estimates, row, length or {}), seed, row,
                       n_candidates if encode is not None else 1, options),
                guess[row] - middle, middle, encode,
            )
            for row in range(len(guess))
        ]  # fmt: skip
        pictures, likeness = np.stack([p for p, _ in drawn]), [a for _, a in drawn]
    out = xr.Dataset(
        {
            "picture": (("trial", "y", "x", "color"), pictures, {"units": "1"}),
            "likeness": ("trial", np.array(likeness, float), {"units": "1"}),
        }
    )
    known = {name: c for name, c in estimates.coords.items() if c.dims == ("trial",)}
    return out.assign_coords(known)


def _conditions(
    pipeline: Any, estimates: xr.Dataset, row: int, length: Mapping[str, float]
) -> dict[str, torch.Tensor]:
    """Return what the pipeline is told of one trial; zeros stand for nothing."""
    takes = inspect.signature(pipeline.__call__).parameters
    out: dict[str, torch.Tensor] = {}
    for head, name in HEADS.items():
        if name not in takes or f"predicted_{head}" not in estimates:
            continue
        value = estimates[f"predicted_{head}"].values[row].astype(np.float32)
        value = torch.from_numpy(value * np.float32(length.get(head, 1.0)))[None]
        if head == "text":  # tokens side by side
            width = pipeline.unet.config.cross_attention_dim
            if value.shape[1] % width:
                raise DataError(
                    f"reconstruct: {value.shape[1]} text features, expected tokens of {width}"
                )
            value = value.reshape(1, -1, width)
        out[name] = value.to(pipeline.device)
        if f"negative_{name}" in takes:
            out[f"negative_{name}"] = torch.zeros_like(out[name])
    if not out:
        raise DataError(
            f"reconstruct: {type(pipeline).__name__} takes none of {', '.join(HEADS.values())} "
            "that were predicted; choose another pipeline"
        )
    return out


def _drawn(
    pipeline: Any, told: Mapping[str, torch.Tensor], seed: int, row: int, n: int,
    options: Mapping[str, Any],
) -> np.ndarray:  # fmt: skip
    """Return candidates (picture, y, x, color) of 0 to 255 for one trial."""
    noise = [
        torch.Generator().manual_seed(int(s))
        for s in generator(seed, f"reconstruct-{row}").integers(2**31, size=n)
    ]
    found = [
        pipeline(**told, generator=one, output_type="np", **options).images[0] for one in noise
    ]
    return np.clip(np.stack(found) * 255, 0, 255).round().astype(np.uint8)


def _best(
    candidates: np.ndarray, guess: np.ndarray, middle: np.ndarray, encode: Encoder | None
) -> tuple[np.ndarray, float]:
    """Return the candidate that is nearest to the prediction, and how near."""
    if encode is None:
        return candidates[0], float("nan")
    code = np.asarray(encode(candidates), float)
    unit = code / np.maximum(np.linalg.norm(code, axis=1, keepdims=True), 1e-12)
    near = cosines(unit - middle, guess[None])[:, 0]
    return candidates[int(near.argmax())], float(near.max())
