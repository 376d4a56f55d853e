"""Which channels go on."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neuropipe import registry
from neuropipe.errors import DataError
from neuropipe.preprocess.voltages import voltages
from neuropipe.schema import Recording


def select_channels(
    recording: Recording,
    *,
    names: list[str] | None = None,
    types: list[str] | None = None,
    shafts: list[str] | None = None,
    regions: list[str] | None = None,
    status: list[str] | None = None,
    drop_bad: bool = True,
    node: str = "ieeg",
) -> Recording:
    """Keep the channels that meet every condition, in node `ieeg`.

    Parameters
    ----------
    recording : DataTree
        With the node of voltages.
    names : list of str, optional
        Channels to keep, in the order of the recording.
    types : list of str, optional
        BIDS types to keep, such as SEEG.
    shafts : list of str, optional
        Electrodes whose contacts to keep.
    regions : list of str, optional
        Brain regions to keep.
    status : list of str, optional
        Values of status to keep: good, bad, n/a.
    drop_bad : bool
        Leave out channels whose status is bad, unless `status` names it.
    node : str
        Where they are: ``"ieeg"`` or ``"ephys/<name>"``, which stays as it is.

    Raises
    ------
    DataError
        A value that no channel has, a condition on what the node does not tell, or no channel
        left.
    """
    found = voltages(recording, node, "select_channels")
    own = np.array(found.names, dtype=object)
    keep = np.ones(len(own), dtype=bool)
    wanted = {
        "channel": names, "channel_type": types, "shaft": shafts, "region": regions,
        "status": status,
    }  # fmt: skip
    for what, values in wanted.items():
        if values is None:
            continue
        if what != "channel" and what not in found.dataset.coords:
            raise DataError(
                f"select_channels: node {node} does not tell the {what} of its channels; it has "
                f"{', '.join(map(str, found.dataset.coords))}"
            )
        there = own if what == "channel" else found.dataset[what].values.astype(str)
        unknown = [value for value in values if value not in set(there)]
        if unknown:
            raise DataError(
                f"select_channels: no channel of node {node} has {what} {unknown[0]!r}"
                f"{registry.hint(unknown[0], sorted(set(there)))}"
            )
        keep &= np.isin(there.astype(str), values)
    if drop_bad and status is None and "status" in found.dataset.coords:
        keep &= found.dataset["status"].values.astype(str) != "bad"
    if not keep.any():
        raise DataError(
            f"select_channels: none of {len(keep)} channels of node {node} meets all conditions; "
            "relax them"
        )
    dataset = found.dataset.isel(channel=np.flatnonzero(keep))
    text = ("channel", own[keep], {"units": ""})
    dataset = dataset.drop_vars("channel", errors="ignore").assign_coords(channel=text)
    dataset.attrs["sampling_rate_hz"] = found.rate_hz
    out = recording.copy()
    out["ieeg"] = xr.DataTree(dataset)
    return out
