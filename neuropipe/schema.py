"""The catalogue of nodes and variables that a Recording may hold, and the check against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from neuropipe.errors import SchemaError

SCHEMA_VERSION = 1
ROOT_ATTRS = ("dataset", "subject", "session", "source", "sha256", "history", "schema_version")
KINDS = {"f": "float", "i": "integer", "b": "boolean", "s": "text"}

Recording = xr.DataTree


@dataclass(frozen=True)
class Var:
    """One variable: its dims in order, units (None: the variable's own), dtype kinds, meaning."""

    dims: tuple[str, ...]
    units: str | None
    kind: str
    meaning: str
    optional: bool = False


TIME = Var(("time",), "s", "f", "seconds from the start of the session, never decreasing")

# A node whose name ends in /* is a family: one child per source series, each on its own clock.
NODES: dict[str, dict[str, Var]] = {
    "spikes": {
        "spike_time": Var(("spike",), "s", "f", "spike times, ordered by unit, then by time"),
        "unit_index": Var(("spike",), "1", "i", "position of the spike's unit on `unit`"),
    },
    "units": {
        "unit": Var(("unit",), "1", "i", "the source's own identifier of each unit"),
        "region": Var(("unit",), "", "s", "brain region of the unit's electrode", optional=True),
        "depth": Var(("unit",), "um", "f", "depth of the unit's electrode", optional=True),
    },
    "counts": {
        "time": Var(("time",), "s", "f", "centre of each bin, seconds from the session start"),
        "spike_count": Var(("time", "unit"), "1", "i", "spikes in a bin of `bin_width_s`"),
        "observed": Var(("time",), "1", "b", "False where the recording was off", optional=True),
    },
    "calcium/*": {
        "time": TIME,
        "fluorescence": Var(("time", "roi"), None, "f", "raw fluorescence", optional=True),
        "dff": Var(("time", "roi"), "1", "f", "fluorescence change over baseline", optional=True),
    },
    "ephys/*": {
        "time": TIME,
        "voltage": Var(("time", "channel"), "V", "f", "extracellular or field potential"),
    },
    "ieeg": {
        "time": TIME,
        "channel": Var(("channel",), "", "s", "name of each channel, as in channels.tsv"),
        "voltage": Var(("time", "channel"), "V", "f", "intracranial potential"),
        **{
            axis: Var(("channel",), "mm", "f", f"contact's {axis}", optional=True) for axis in "xyz"
        },
        "shaft": Var(("channel",), "", "s", "electrode that the contact sits on", optional=True),
        "region": Var(("channel",), "", "s", "brain region of the contact", optional=True),
        "channel_type": Var(("channel",), "", "s", "BIDS type: SEEG, ECOG...", optional=True),
        "status": Var(("channel",), "", "s", "good, bad or n/a", optional=True),
    },
    "band_power": {
        "time": TIME,
        "channel": Var(("channel",), "", "s", "name of each channel"),
        "band": Var(("band",), "", "s", "name of each band"),
        "power": Var(("time", "channel", "band"), None, "f", "power of the band, V^2 or dB"),
    },
    "bold": {
        "time": TIME,
        "bold": Var(("time", "voxel"), None, "f", "BOLD signal, 1 as scanned or % of the mean"),
        **{axis: Var(("voxel",), "1", "i", f"index {axis} of the voxel's grid") for axis in "ijk"},
        **{axis: Var(("voxel",), "mm", "f", f"world {axis} of the voxel") for axis in "xyz"},
    },
    "regions": {
        "time": TIME,
        "region": Var(("region",), "", "s", "name or number of each region of the atlas"),
        "region_signal": Var(("time", "region"), None, "f", "mean signal of a region's voxels"),
    },
    "confounds": {
        "time": TIME,
        "confound": Var(("confound",), "", "s", "column of the confounds table"),
        "confound_unit": Var(("confound",), "", "s", "unit of each column"),
        "confound_value": Var(("time", "confound"), "mixed", "f", "value, unit by column"),
    },
    "betas": {
        "beta": Var(("trial", "voxel"), None, "f", "response amplitude of one trial"),
        **{axis: Var(("voxel",), "1", "i", f"index {axis} of the voxel's grid") for axis in "ijk"},
    },
    "embedding": {
        "stimulus": Var(("stimulus",), "", "s", "identifier of each stimulus"),
        "embedding": Var(("stimulus", "feature"), "1", "f", "features of each stimulus"),
    },
    "text_embedding": {
        "stimulus": Var(("stimulus",), "", "s", "identifier of each stimulus"),
        "embedding": Var(("stimulus", "feature"), "1", "f", "features of each stimulus' caption"),
    },
    "runs": {
        "run_label": Var(("run",), "", "s", "BIDS run label, or the file's name"),
        "start_time": Var(("run",), "s", "f", "first sample of the run"),
        "stop_time": Var(("run",), "s", "f", "end of its last sample"),
    },
    "behavior/*": {"time": TIME},
    "behavior": {"time": TIME},
    "events/*": {"event_time": Var(("event",), "s", "f", "when each event happened")},
    "stimulus/*": {
        "frame": Var(("frame", "y", "x"), "1", "fi", "grey images", optional=True),
        "frame_color": Var(
            ("frame", "y", "x", "color"), "1", "fi", "images in colour", optional=True
        ),
        "frame_time": Var(("frame",), "s", "f", "onset of each frame", optional=True),
    },
    "trials": {
        "start_time": Var(("trial",), "s", "f", "start of the trial"),
        "stop_time": Var(("trial",), "s", "f", "end of the trial"),
    },
    "windows": {
        "start_time": Var(("window",), "s", "f", "start of a stretch that a fold uses"),
        "stop_time": Var(("window",), "s", "f", "end of it"),
    },
    "intervals/*": {
        "start_time": Var(("interval",), "s", "f", "start of the interval"),
        "stop_time": Var(("interval",), "s", "f", "end of the interval"),
    },
}


def kind_of(array: xr.DataArray) -> str:
    """Return the catalogue's letter for a dtype: f, i (signed or not), b or s (text)."""
    kind = array.dtype.kind
    return {"u": "i", "U": "s", "S": "s", "O": "s", "T": "s"}.get(kind, kind)


def declared(node: str) -> Mapping[str, Var]:
    """Return what the catalogue says of a node, itself or through its family."""
    if node in NODES:
        return NODES[node]
    family = node.split("/", 1)[0] + "/*"
    if "/" in node and family in NODES:
        return NODES[family]
    raise SchemaError(
        f"schema: unknown node {node!r}; the catalogue has {', '.join(sorted(NODES))}"
    )


def _faults_of_variable(node: str, name: str, var: Var, dataset: xr.Dataset) -> list[str]:
    where = f"{node}/{name}"
    if name not in dataset.variables:
        return [] if var.optional else [f"{where}: missing; expected dims {var.dims}"]
    array = dataset[name]
    faults = []
    if array.dims != var.dims:
        faults.append(f"{where}: dims {array.dims}, expected {var.dims}")
    units = array.attrs.get("units")
    if units is None:
        faults.append(f"{where}: no units, expected {var.units or 'its own'!r}")
    elif var.units is not None and units != var.units:
        faults.append(f"{where}: units {units!r}, expected {var.units!r}")
    if kind_of(array) not in var.kind:
        expected = " or ".join(KINDS[kind] for kind in var.kind)
        faults.append(f"{where}: dtype {array.dtype}, expected {expected} ({var.meaning})")
    return faults


def faults_of_dataset(
    dataset: xr.Dataset, variables: Mapping[str, Var], where: str = ""
) -> list[str]:
    """Return every departure of a Dataset from declared variables, as sentences."""
    faults: list[str] = []
    for name, var in variables.items():
        faults += _faults_of_variable(where, name, var, dataset)
    for own in dataset.data_vars:
        if own not in variables and "units" not in dataset[own].attrs:
            faults.append(f"{where}/{own}: no units; every variable carries its own")
    return faults


def validate(recording: Recording, *nodes: str) -> None:
    """Check that a recording holds the nodes, with the catalogue's dims, units and dtypes.

    Parameters
    ----------
    recording : DataTree
        One session.
    *nodes : str
        Node names such as ``"counts"``, ``"trials"`` or ``"behavior/position"``.

    Raises
    ------
    SchemaError
        With all faults of all nodes in one message, and the nodes that are there.
    """
    faults: list[str] = []
    present = [n.lstrip("/") for n in recording.groups if n != "/"]
    for node in nodes:
        variables = declared(node)
        if node not in present:
            faults.append(
                f"{node}: node missing; this recording has {', '.join(present) or 'none'}"
            )
            continue
        faults += faults_of_dataset(recording[node].to_dataset(), variables, node)
    if faults:
        session = recording.attrs.get("session", "unnamed session")
        raise SchemaError(f"recording {session}: " + "; ".join(faults))


def keep_nodes(recording: Recording, nodes: Sequence[str]) -> Recording:
    """Return the recording with some of its nodes only, root attrs kept.

    Raises
    ------
    SchemaError
        A node is not there; lists those that are.
    """
    present = [group.lstrip("/") for group in recording.groups if recording[group].variables]
    wanted = [p for p in present if any(p == n or p.startswith(f"{n}/") for n in nodes)]
    missing = [n for n in nodes if not any(p == n or p.startswith(f"{n}/") for p in present)]
    if missing:
        raise SchemaError(
            f"recording {recording.attrs.get('session')}: no node {missing[0]!r}; it has "
            f"{', '.join(present)}"
        )
    kept = xr.DataTree.from_dict({f"/{p}": recording[p].to_dataset() for p in wanted})
    kept.attrs = dict(recording.attrs)
    return kept
