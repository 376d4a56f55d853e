"""Where contacts lie: electrodes.tsv of one space, in mm, with the regions that it names."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuropipe.errors import ReaderError
from neuropipe.io import bids
from neuropipe.io.sidecars import numbers, read_json, read_table

log = logging.getLogger(__name__)

MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
REGIONS = ("region", "brain_region", "anat", "anatomy", "location", "roi", "label", "destrieux")


def contacts(
    files: Sequence[Path], recording: Path, names: Sequence[str], space: str
) -> tuple[dict[str, tuple], dict[str, str]]:
    """Return where channels lie.

    Parameters
    ----------
    files : of the session
    recording : that the contacts belong to
    names : of its channels
    space : BIDS space; empty takes the first in which coordinates have a length

    Returns
    -------
    coords : x, y, z (channel) mm, NaN where the table has none; region (channel) where it has
    attrs : `coordinate_system`

    Raises
    ------
    ReaderError
        No such space, no lengths in it, a contact twice, or a coordinate that is no number.
    """
    own = bids.Name(recording)
    tables: dict[str, list[Path]] = {}
    for name in map(bids.Name, files):
        if (name.suffix, name.extension) == ("electrodes", ".tsv") and name.describes(own):
            tables.setdefault(name.entities.get("space", ""), []).append(name.path)
    if space and space not in tables:
        raise ReaderError(
            f"{recording}: space: found electrodes.tsv in {_spaces(tables)}, expected one in "
            f"{space!r}; choose another space or add the file"
        )
    why = {}
    for one in [space] if space else sorted(tables):
        system, scale, fault = _system(files, recording, one)
        if not fault:
            if len(tables) > 1 and not space:
                log.warning(
                    "%s: electrodes in %s; taken is %r, choose with space=",
                    recording, _spaces(tables), one,
                )  # fmt: skip
            table = bids.best(tables[one], recording, "electrodes", ".tsv") or tables[one][0]
            return _placed(table, names, scale), {"coordinate_system": system}
        why[one] = fault
    if space:
        raise ReaderError(f"{recording}: space {space!r}: {why[space]}")
    for one, fault in why.items():
        log.warning("%s: contacts of space %r are left out: %s", recording, one, fault)
    return {}, {}


def _spaces(tables) -> str:
    return ", ".join(repr(name) for name in sorted(tables)) or "no space"


def _system(files: Sequence[Path], recording: Path, space: str) -> tuple[str, float, str]:
    """Return name of the coordinate system, mm per unit, and what forbids to use it."""
    fitting = [f for f in files if bids.Name(f).entities.get("space", "") == space]
    described = bids.best(fitting, recording, "coordsystem", ".json")
    if described is None:
        return "", 0.0, "no coordsystem.json says their unit; expected one beside electrodes.tsv"
    content = read_json(described)
    unit = str(content.get("iEEGCoordinateUnits", "n/a"))
    system = str(content.get("iEEGCoordinateSystem", "")) or space
    if unit not in MILLIMETRES:
        return system, 0.0, f"{described.name}: found units {unit!r}, expected mm, cm or m"
    return f"{system} ({space})" if space and space != system else system, MILLIMETRES[unit], ""


def _placed(table: Path, names: Sequence[str], scale: float) -> dict[str, tuple]:
    frame = read_table(table, "name", "x", "y", "z")
    labels = frame["name"].fillna("").str.strip()
    if labels.duplicated().any():
        twice = labels[labels.duplicated()].iloc[0]
        raise ReaderError(f"{table}: found contact {twice!r} twice, expected once; mend the table")
    row_of = {name: row for row, name in enumerate(labels)}
    rows = np.array([row_of.get(name, -1) for name in names], dtype=int)
    if (rows < 0).any():
        log.warning(
            "%s: %d of %d channels have no contact in it, so no place", table, (rows < 0).sum(),
            len(rows),
        )  # fmt: skip
    found: dict[str, tuple] = {}
    for axis in "xyz":
        values = np.append(numbers(frame, axis, table), np.nan)
        found[axis] = ("channel", values[rows] * scale, {"units": "mm"})
    column = next((c for c in frame.columns if str(c).lower() in REGIONS), None)
    if column is not None:
        texts = np.append(frame[column].fillna("").to_numpy(object), "")
        found["region"] = ("channel", texts[rows], {"units": ""})
    return found
