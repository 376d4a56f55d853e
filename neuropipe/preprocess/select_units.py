"""Keep the units that the source's own columns recommend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuropipe.errors import DataError
from neuropipe.schema import Recording


def select_units(recording: Recording, *, where: Mapping[str, Any]) -> Recording:
    """Keep units whose columns have the wanted values.

    Parameters
    ----------
    recording : DataTree
        With nodes `spikes` and `units`.
    where : mapping of column to value, list of values, or ``{"min": x, "max": y}``
        All conditions must hold. Selection by firing rate belongs to a model, which sees
        training data only. Counts that are there already keep the same units.

    Raises
    ------
    DataError
        For an unknown column, or when no unit is left.
    """
    units = recording["units"].to_dataset()
    keep = np.ones(units.sizes["unit"], dtype=bool)
    for column, wanted in where.items():
        if column not in units.variables:
            raise DataError(
                f"select_units: no column {column!r} in node units; it has "
                f"{', '.join(map(str, units.variables))}"
            )
        values = units[column].values
        if isinstance(wanted, Mapping):
            keep &= values >= wanted.get("min", -np.inf)
            keep &= values <= wanted.get("max", np.inf)
        else:
            keep &= np.isin(values, np.atleast_1d(np.asarray(wanted)))
    if not keep.any():
        raise DataError(
            f"select_units: none of {len(keep)} units of session "
            f"{recording.attrs.get('session')} satisfies {dict(where)}; relax the condition"
        )
    position = np.cumsum(keep) - 1
    spikes = recording["spikes"].to_dataset()
    index = spikes["unit_index"].values
    mine = keep[index]
    spikes = spikes.isel(spike=np.flatnonzero(mine))
    attrs = spikes["unit_index"].attrs
    spikes["unit_index"] = ("spike", position[index[mine]].astype(index.dtype), attrs)
    out = recording.copy()
    out["spikes"] = type(recording)(spikes)
    out["units"] = type(recording)(units.isel(unit=np.flatnonzero(keep)))
    if "counts" in recording.children:
        counts = recording["counts"].to_dataset()
        out["counts"] = type(recording)(counts.isel(unit=np.flatnonzero(keep)))
    return out
