"""A fitted baseline on disk: its configuration as JSON, its arrays as one .npz without pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from neuropipe.batching.sequences import Scaling


def save_arrays(path: Path, config: BaseModel, scaling: Scaling, **arrays: Any) -> None:
    """Write ``config.json`` and ``weights.npz`` into a folder that exists."""
    (path / "config.json").write_text(config.model_dump_json(indent=1))
    kept = vars(scaling) | {"unit": plain_names(scaling.unit)}
    np.savez(path / "weights.npz", **{f"scaling_{k}": v for k, v in kept.items()}, **arrays)


def plain_names(names: np.ndarray) -> np.ndarray:
    """Return numbers as they are and text as text, since objects could only be kept by pickles."""
    return names if names.dtype.kind in "iuf" else names.astype(str)


def load_arrays(path: Path) -> tuple[str, Scaling, dict[str, np.ndarray]]:
    """Return the configuration's JSON, the scaling and the arrays."""
    with np.load(path / "weights.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    scaling = {n: arrays.pop(n) for n in list(arrays) if n.startswith("scaling_")}
    fields = {name.removeprefix("scaling_"): value for name, value in scaling.items()}
    fields["bin_width_s"] = float(fields["bin_width_s"])
    fields["subject"] = str(fields.get("subject", ""))
    return (path / "config.json").read_text(), Scaling(**fields), arrays
