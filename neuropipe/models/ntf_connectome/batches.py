"""The NTF connectome's door: derivatives of several animals' traces in, entries out."""

from __future__ import annotations

import numpy as np
import torch

from neuropipe.batching.derivatives import Derivatives
from neuropipe.models.ntf_connectome.affinity import energy
from neuropipe.models.ntf_connectome.config import Config
from neuropipe.models.ntf_connectome.entries import Entries

STORE_BYTES = 2**28  # affinities are stored up to here


def make_entries(
    d: Derivatives, config: Config, device: torch.device, dtype: torch.dtype
) -> Entries:
    """Return the entries of the tensor, not stored."""
    table, kind_of = np.unique(d.present, axis=0, return_inverse=True)
    number = [part.stop - part.start for part in d.rows_of]
    data = torch.as_tensor(d.data).to(device, dtype)
    return Entries(
        data, config.affinity, torch.as_tensor(d.time).to(device), len(d.window), d.rows_of,
        torch.as_tensor(np.repeat(kind_of.ravel(), number)).to(device),
        torch.as_tensor(table).to(device), energy(data, config.affinity),
    )  # fmt: skip


def held(entries: Entries, config: Config) -> Entries:
    """Return the entries as `storage` says: stored, as codes, or made anew in each pass."""
    size = len(entries.data) * entries.n_pairs * entries.data.element_size()
    if config.storage == "codes":
        return entries.stored("codes")
    if config.storage == "stored" or (config.storage == "auto" and size <= STORE_BYTES):
        return entries.stored("stored")
    return entries


def precision_of(d: Derivatives, config: Config, device: torch.device) -> torch.dtype:
    """Return the dtype of derivatives and factors."""
    if config.precision != "auto":
        return {"float32": torch.float32, "float64": torch.float64}[config.precision]
    n_rows, n_units = d.data.shape
    size = 8 * n_rows * n_units * (n_units - 1) // 2
    small = config.storage == "stored" or (config.storage == "auto" and size <= STORE_BYTES)
    return torch.float64 if device.type == "cpu" and small else torch.float32
