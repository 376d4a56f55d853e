"""What a fit has learned, laid out as labelled arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from neuropipe.batching.raster import Raster
from neuropipe.models.neuroformer.config import REVISION, Config
from neuropipe.models.neuroformer.connectivity import chance_of, outlier
from neuropipe.models.neuroformer.model import Network
from neuropipe.models.neuroformer.scaling import Scaling

MOST_UNITS = 4000  # beyond, matrices of all pairs are not laid out


def unit_names(scaling: Scaling) -> tuple[np.ndarray, str]:
    """Return the labels of all units, and their units attribute.

    Identifiers of one session stay what they are; of several they are ``subject/session:unit``.
    """
    if len(scaling.units) == 1:
        [units] = scaling.units.values()
        return units, "1" if units.dtype.kind in "iu" else ""
    names = [f"{key}:{u}" for key, units in scaling.units.items() for u in units.tolist()]
    return np.array(names, dtype=object), ""


def labelled(
    network: Network,
    rasters: Sequence[Raster],
    scaling: Scaling,
    config: Config,
    edges: Mapping[str, Mapping[str, np.ndarray]],
    null: Mapping[str, Mapping[str, np.ndarray]],
) -> xr.Dataset:
    """Return everything learned as one Dataset, the estimator's `learns`.

    Parameters
    ----------
    network : Network
        Trained.
    rasters : sequence of Raster
        Of the training data.
    scaling : Scaling
    config : Config
    edges : mapping of session to method to (unit, source)
    null : mapping of session to method to (fit, unit, source)
        Of shuffled data; empty without refits.
    """
    names, kind = unit_names(scaling)
    n = len(names)
    rate = np.concatenate(list(scaling.rate.values())) / scaling.bin_width_s
    table = network.spikes.unit.weight.detach().cpu().numpy()[1:]
    variables: dict[str, Any] = {
        "rate": ("unit", rate, {"units": "Hz"}),
        "unit_embedding": (("unit", "feature"), table, {"units": "1"}),
    }
    coords = {"unit": ("unit", names, {"units": kind})}
    if config.connectivity and n <= MOST_UNITS:
        coords["source_unit"] = ("source_unit", names, {"units": kind})
        for method in config.connectivity:
            label = "connectivity" if method == "readout" else f"{method}_connectivity"
            for suffix, values in _matrices(method, edges, null).items():
                whole = np.full((n, n), np.nan, dtype=np.float32)
                for raster in rasters:
                    first = scaling.first[raster.key]
                    part = slice(first, first + len(raster.unit))
                    whole[part, part] = values[raster.key]
                variables[label + suffix] = (("unit", "source_unit"), whole, {"units": "1"})
    attrs = {
        "window_bins": config.window_bins, "history_bins": config.history_bins,
        "bin_width_s": scaling.bin_width_s, "sessions": list(scaling.units), "revision": REVISION,
        "n_parameters": sum(p.numel() for p in network.parameters()),
    }  # fmt: skip
    return xr.Dataset(variables, coords, attrs)


def _matrices(
    method: str,
    edges: Mapping[str, Mapping[str, np.ndarray]],
    null: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, dict[str, np.ndarray]]:
    """Return value, outlier score and, with refits, p of a method, by session."""
    out = {
        "": {key: found[method] for key, found in edges.items()},
        "_z": {key: outlier(found[method]) for key, found in edges.items()},
    }
    if null:
        out["_p"] = {key: chance_of(f[method], null[key][method]) for key, f in edges.items()}
    return out
