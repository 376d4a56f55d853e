"""NWB files in: every table and series of one session as a lazy Recording on its own clocks."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import xarray as xr
from hdmf.build import ConstructError
from hdmf.common import DynamicTable
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.base import Images
from pynwb.ecephys import ElectricalSeries, SpikeEventSeries
from pynwb.epoch import TimeIntervals
from pynwb.event import EventsTable
from pynwb.icephys import PatchClampSeries
from pynwb.image import ImageSeries, IndexSeries
from pynwb.misc import IntervalSeries
from pynwb.ophys import OnePhotonSeries, RoiResponseSeries, TwoPhotonSeries

from neuropipe.errors import ReaderError
from neuropipe.io import nwb_images, nwb_series, nwb_tables
from neuropipe.io.child import ask
from neuropipe.io.hdf5 import Source
from neuropipe.schema import SCHEMA_VERSION, Recording

log = logging.getLogger(__name__)

PROBE = Path(__file__).with_name("probe.py")
SUBJECT = ("species", "sex", "age", "strain", "genotype")
NOT_READ = (SpikeEventSeries, OnePhotonSeries, TwoPhotonSeries, PatchClampSeries, DynamicTable)
# First match wins: subclasses stand above their parents.
FAMILIES: tuple[tuple[type, str, Callable | None], ...] = (
    (TimeIntervals, "intervals", nwb_tables.intervals),
    (EventsTable, "events", nwb_tables.event_table),
    *((kind, "", None) for kind in NOT_READ),
    (ElectricalSeries, "ephys", nwb_series.ephys),
    (RoiResponseSeries, "calcium", nwb_series.calcium),
    (ImageSeries, "stimulus", nwb_images.movie),
    (IndexSeries, "stimulus", nwb_images.index),
    (Images, "stimulus", nwb_images.album),
    (IntervalSeries, "intervals", nwb_series.epochs),
)


@dataclass(frozen=True)
class Found:
    """One object of the file that becomes a node: its family, reader and place in the file."""

    family: str
    read: Callable[..., xr.Dataset]
    item: object
    address: tuple[str, ...]


def read(
    path: str | Path | Sequence[str | Path],
    *,
    dataset: str = "",
    session: str = "",
    subject: str = "",
    sha256: str = "",
    sort_spikes: bool = False,
) -> Recording:
    """Read one NWB 2 file, or the files of one session, as a lazy recording.

    Nothing is loaded but small tables; arrays are Dask arrays that open the file anew for each
    block. Times are seconds from the session start, each series on its own clock, values in the
    units of the file after conversion and offset.

    Parameters
    ----------
    path : the `.nwb` file (HDF5); of several, each holds nodes that the others do not
    dataset, session, subject : names for the root; empty takes those of the file
    sha256 : of the file, where it is known; empty computes it
    sort_spikes : sort unsorted spike times within a unit instead of refusing them

    Returns
    -------
    DataTree
        Nodes spikes, units, trials, intervals/*, behavior/*, events/*, ephys/*, calcium/*,
        stimulus/*, as far as the file has them.

    Raises
    ------
    ReaderError
        Names file, object, what was found, what was expected and what to do.
    """
    if not isinstance(path, str | Path):
        names = {"dataset": dataset, "session": session, "subject": subject, "sha256": sha256}
        return _merged([Path(one) for one in path], **names, sort_spikes=sort_spikes)
    path = Path(path).absolute()
    _probe(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with NWBHDF5IO(str(path), mode="r", load_namespaces=True) as io:
                file = io.read()
                shift = file.timestamps_reference_time - file.session_start_time
                source = Source(path, shift.total_seconds(), sort_spikes)
                nodes = dict(_nodes(file, source))
                attrs = _attrs(file)
        except ReaderError:
            raise
        except Exception as error:
            raise ReaderError(
                f"{path}: found what pynwb cannot read ({_reason(error)}), expected NWB 2; check "
                "the file with `python -m pynwb.validation_cli`"
            ) from error
    for text, count in Counter(str(warning.message) for warning in caught).items():
        log.info("%s: pynwb says (%d x) %s", path, count, text)
    parameters = {"sort_spikes": sort_spikes}
    history = [{"name": "read_nwb", "parameters": parameters, "version": _version()}]
    recording = xr.DataTree.from_dict(nodes)
    recording.attrs = {
        **attrs,
        "dataset": dataset,
        "subject": subject or attrs["subject"],
        "session": session or attrs["session"] or path.stem,
        "source": path.name,
        "sha256": sha256 or _sha256(path),
        "history": json.dumps(history),
        "schema_version": SCHEMA_VERSION,
    }
    return recording


def _merged(paths: Sequence[Path], **options) -> Recording:
    """Return one recording of several files; the first gives the root's names."""
    recording = read(paths[0], **options)
    for path in paths[1:]:
        for name, child in read(path, **options).children.items():
            if name in recording.children:
                raise ReaderError(
                    f"{path}: session {recording.attrs['session']} has node {name!r} in two files; "
                    "give each file a session_id of its own in the manifest"
                )
            recording[name] = child.copy()
    recording.attrs["source"] = ", ".join(path.name for path in paths)
    return recording


def _probe(path: Path) -> None:
    """Open the file in a child process first: what crashes the HDF5 library crashes only that."""
    if not path.is_file():
        raise ReaderError(f"{path}: found no file, expected an NWB file; check the path")
    answer = ask(PROBE, path, "the HDF5 library", "a whole NWB 2 file in HDF5")
    found = str(answer["version"] or "no nwb_version")
    if not found.removeprefix("NWB-").startswith("2"):
        raise ReaderError(
            f"{path}: nwb_version: found {found!r}, expected 2.x; convert the file to NWB 2 first"
        )


def _reason(error: Exception) -> str:
    """Return what hdmf found wrong and where, without its dump of the whole object."""
    if isinstance(error, ConstructError):
        builder, why = error.args[0], error.args[-1]
        return f"{builder.path.removeprefix('root')}: {why}"
    return f"{type(error).__name__}: {error}"


def _walk(items, address: tuple[str, ...]) -> Iterator[tuple[object, tuple[str, ...]]]:
    """Yield series, tables and albums with their place, through any depth of containers."""
    for item in items:
        here = (*address, item.name)
        inside = getattr(item, "children", ())
        if isinstance(item, TimeSeries | DynamicTable | Images) or not inside:
            yield item, here
        else:
            yield from _walk(inside, here)


def _items(file: NWBFile) -> Iterator[tuple[object, tuple[str, ...]]]:
    yield from _walk(file.acquisition.values(), ("acquisition",))
    yield from _walk(file.processing.values(), ("processing",))
    yield from _walk(file.stimulus.values(), ("stimulus", "presentation"))
    yield from _walk(file.stimulus_template.values(), ("stimulus", "templates"))
    yield from _walk(file.analysis.values(), ("analysis",))
    tables = (*(file.intervals or {}).values(), file.epochs, file.invalid_times)
    own = {table.name: table for table in tables if table is not None and table is not file.trials}
    yield from _walk(own.values(), ("intervals",))
    yield from _walk(file.events.values(), ("events",))


def _found(item, address: tuple[str, ...], source: Source) -> Found | None:
    for kind, family, reader in FAMILIES:
        if isinstance(item, kind):
            return Found(family, reader, item, address) if reader else None
    if not isinstance(item, TimeSeries):
        return None
    if nwb_series.is_marks(item, source):
        return Found("events", nwb_series.events, item, address)
    if address[0] == "stimulus":
        return Found("stimulus", nwb_series.signal, item, address)
    return Found("behavior", nwb_series.behavior, item, address)


def _named(found: list[Found]) -> Iterator[tuple[str, Found]]:
    """Yield node names; objects that would share one carry their place in the name."""
    short = Counter((one.family, nwb_tables.safe_name(one.address[-1])) for one in found)
    taken: set[str] = set()
    for one in found:
        name = nwb_tables.safe_name(one.address[-1])
        if short[one.family, name] > 1:
            name = nwb_tables.safe_name("_".join(one.address[1:]))
            log.info(
                "%s: several objects are called %s; this one is node %s/%s",
                "/".join(one.address),
                one.address[-1],
                one.family,
                name,
            )
        while f"{one.family}/{name}" in taken:
            name += "_"
        taken.add(f"{one.family}/{name}")
        yield name, one


def _nodes(file: NWBFile, source: Source) -> Iterator[tuple[str, xr.Dataset]]:
    if file.units is not None:
        spikes = nwb_tables.spikes(file.units, source)
        if spikes is not None:
            yield "/spikes", spikes
        yield "/units", nwb_tables.units(file.units, source)
        observed = nwb_tables.observation_intervals(file.units, source)
        if observed is not None:
            yield "/intervals/obs_intervals", observed
    if file.trials is not None and len(file.trials):
        yield "/trials", nwb_tables.intervals(file.trials, source, "/intervals/trials", "trials")
    found = []
    for item, address in _items(file):
        one = _found(item, address, source)
        if one is None:
            log.warning(
                "%s: /%s: %s is not read", source.path, "/".join(address), type(item).__name__
            )
        else:
            found.append(one)
    for name, one in _named(found):
        where = "/" + "/".join(one.address)
        node = one.read(one.item, source, where, name)
        node.attrs["nwb_path"] = where
        description = getattr(one.item, "description", None)
        if description and description not in ("no description", "NA"):
            node.attrs["description"] = str(description)
        yield f"/{one.family}/{name}", node


def _attrs(file: NWBFile) -> dict[str, str]:
    """Return what the root says of session and subject: no birth date and no person's name."""
    attrs = {
        "session": str(file.session_id or ""),
        "subject": "",
        "session_start_time": file.session_start_time.isoformat(),
    }
    if file.subject is not None:
        attrs["subject"] = str(file.subject.subject_id or "")
        for name in SUBJECT:
            text = getattr(file.subject, name)
            if text:
                attrs[name] = str(text)
    return attrs


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _version() -> str:
    try:
        return version("neuropipe")
    except PackageNotFoundError:
        return "unknown"
