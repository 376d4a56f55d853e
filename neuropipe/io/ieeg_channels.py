"""What channels.tsv says of each channel of a file, and how many volts the file's unit is."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.errors import ReaderError
from neuropipe.io.ieeg_raw import Channel
from neuropipe.io.sidecars import numbers, read_table

log = logging.getLogger(__name__)

NEURAL = ("SEEG", "ECOG", "DBS", "EEG")
VOLT = {
    "V": 1.0, "volt": 1.0, "volts": 1.0, "mV": 1e-3, "millivolt": 1e-3, "millivolts": 1e-3,
    "uV": 1e-6, "µV": 1e-6, "μV": 1e-6, "UV": 1e-6, "microV": 1e-6, "microvolt": 1e-6,
    "microvolts": 1e-6, "\x83\xcaV": 1e-6, "nV": 1e-9,
}  # fmt: skip
NO_UNIT = ("", "n/a", "N/A", "none", "None", "unknown")
# What a file without channels.tsv says of a channel by its label: EDF+ puts the type first.
LABELLED = re.compile(r"(seeg|ecog|dbs|eeg|eog|ecg|ekg|emg|trig|status|resp|spo2|annot)", re.I)
AUXILIARY = {"EOG": "EOG", "ECG": "ECG", "EKG": "ECG", "EMG": "EMG", "TRIG": "TRIG"}
RATE_SLACK = 1e-3  # of the rate: 1023.9 for 1024 is rounded, 1000 is another recording
TEXT = ("status_description", "reference", "group")
CUTOFFS = ("low_cutoff", "high_cutoff")
MARKS = ("EDF Annotations", "BDF Annotations")


def described(path: Path, channels: Sequence[Channel], table: Path | None) -> pd.DataFrame:
    """Return one row a channel of the file: what channels.tsv says, else what the labels say.

    Parameters
    ----------
    path : the recording, for errors
    channels : of the file, in its order
    table : channels.tsv, or None

    Returns
    -------
    DataFrame
        Columns name (unique), type, units and those of the table, as text.

    Raises
    ------
    ReaderError
        Names of the table and of the file differ, or a rate does.
    """
    if table is None:
        return _by_label(path, channels)
    frame = read_table(table, "name")
    frame["name"] = frame["name"].fillna("").str.strip()
    frame = frame[~frame["name"].isin(MARKS)].reset_index(drop=True)
    labels = [channel.name for channel in channels]
    frame = frame.iloc[_matched(path, labels, table, frame["name"].tolist())]
    frame = frame.reset_index(drop=True)
    if frame["name"].duplicated().any():
        frame["name"] = _unique(path, frame["name"].tolist())
    for column in ("type", "units", "status"):
        if column not in frame:
            frame[column] = pd.Series(pd.NA, index=frame.index, dtype="object")
    frame["type"] = frame["type"].fillna("MISC").str.upper()
    for column in ("units", "status"):
        frame[column] = frame[column].fillna("n/a")
    if "sampling_frequency" in frame:
        told = numbers(frame, "sampling_frequency", table)
        for name, rate, channel in zip(frame["name"], told, channels, strict=True):
            refuse_rate(table, f"channel {name}", rate, channel.rate_hz)
    return frame


def refuse_rate(path: Path, what: str, told: float, header_hz: float) -> None:
    """Refuse a rate that is another than the header's, which is the one that is used.

    Raises
    ------
    ReaderError
        They differ by more than a rounding.
    """
    if not np.isnan(told) and abs(told - header_hz) > RATE_SLACK * header_hz:
        raise ReaderError(
            f"{path}: {what}: found a rate of {told:g} Hz, expected the {header_hz:g} Hz of the "
            "file's header; find out which is right and mend the other"
        )


def factors(
    path: Path, channels: Sequence[Channel], frame: pd.DataFrame, neural: np.ndarray, unit: str
) -> np.ndarray:
    """Return volts per unit of the file, (channel,), for neural channels; 1 for the others.

    The header says what its numbers are; channels.tsv speaks where the header has no unit, and
    the option `unit` where neither has one.

    Raises
    ------
    ReaderError
        A neural channel has no unit at all, or one that is no voltage.
    """
    out = np.ones(len(channels))
    if unit and unit not in VOLT:
        raise ReaderError(
            f"{path}: unit: found {unit!r}, expected one of {', '.join(_plain_units())}"
        )
    against, lost, wrong = [], [], []
    for i in np.flatnonzero(neural).tolist():
        header, table = channels[i].unit, frame["units"][i]
        used = next((u for u in (header, table, unit) if u not in NO_UNIT), "")
        if not used:
            lost.append(frame["name"][i])
        elif used not in VOLT:
            wrong.append(f"{frame['name'][i]} {used!r}")
        else:
            out[i] = VOLT[used]
            if table not in NO_UNIT and VOLT.get(table) != VOLT[used]:
                against.append(f"{frame['name'][i]} in {header}, not {table}")
    if lost or wrong:
        raise ReaderError(
            f"{path}: neural channels without a unit: {_few(lost) or 'none'}; with a unit that is "
            f"no voltage: {_few(wrong) or 'none'}; expected one of {', '.join(_plain_units())} in "
            "the header or in channels.tsv; mend it there, or pass unit= where none is given"
        )
    if against:
        log.warning(
            "%s: the header and channels.tsv name different units of %d channels; the header's are "
            "used: %s; see in the report whether amplitudes are those of a brain",
            path, len(against), _few(against),
        )  # fmt: skip
    return out


def coords(frame: pd.DataFrame, path: Path) -> dict[str, tuple]:
    """Return what is known of neural channels as coordinates on `channel`."""

    def text(values) -> tuple:
        return ("channel", np.array(list(values), dtype=object), {"units": ""})

    groups = frame["group"].fillna("") if "group" in frame else [""] * len(frame)
    found: dict[str, tuple] = {
        "channel": text(frame["name"]),
        "channel_type": text(frame["type"]),
        "status": text(frame["status"]),
        "shaft": text(
            group or shaft_of(name) for group, name in zip(groups, frame["name"], strict=True)
        ),
    }
    for column in TEXT:
        if column in frame and frame[column].notna().any():
            found[column] = text(frame[column].fillna(""))
    for column in CUTOFFS:
        if column in frame and frame[column].notna().any():
            values = pd.to_numeric(frame[column], errors="coerce").to_numpy(float)
            found[f"{column}_hz"] = ("channel", values, {"units": "Hz"})
    return found


def shaft_of(name: str) -> str:
    """Return the electrode that a contact's name tells of, A' of A'12; empty without a number."""
    match = re.fullmatch(r"([^-]*?)[\s_-]*\d+", name)
    return match[1] if match else ""


def behavior(name: str, values, time, units: str) -> xr.Dataset:
    """Return a channel that is not neural as a series of its own."""
    unit = "1" if units in NO_UNIT else units
    clock = xr.Coordinates({"time": ("time", time, {"units": "s"})}, indexes={})
    return xr.Dataset({name: ("time", values, {"units": unit})}, clock)


def safe_names(names: Sequence[str]) -> list[str]:
    """Return names of letters, digits and underscores for nodes, each only once."""
    out: list[str] = []
    for name in names:
        safe = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "unnamed"
        safe = f"{safe}_value" if safe == "time" else safe
        while safe in out:
            safe += "_"
        out.append(safe)
    return out


def _by_label(path: Path, channels: Sequence[Channel]) -> pd.DataFrame:
    """Return types by label and unit: a voltage is neural unless its label says otherwise."""
    types = []
    voltages = any(channel.unit in VOLT for channel in channels)
    for channel in channels:
        found = LABELLED.match(channel.name)
        said = found[1].upper() if found else ""
        voltage = channel.unit in VOLT or (channel.unit in NO_UNIT and not voltages)
        if said and said not in NEURAL:
            types.append(AUXILIARY.get(said, "MISC"))
        else:
            types.append((said or "n/a") if voltage else "MISC")
    names = _unique(path, [channel.name for channel in channels])
    log.warning(
        "%s: no channels.tsv; by label and unit %d of %d channels are neural, all of unknown "
        "status", path, sum(t in (*NEURAL, "n/a") for t in types), len(types),
    )  # fmt: skip
    return pd.DataFrame({"name": names, "type": types, "units": "n/a", "status": "n/a"})


def _matched(path: Path, labels: list[str], table: Path, names: list[str]) -> list[int]:
    """Return the row of the table for each channel of the file."""
    if labels == names:
        return list(range(len(labels)))
    if len(set(names)) == len(names) and set(labels) == set(names) and len(labels) == len(names):
        return [names.index(label) for label in labels]
    repeats = {label for label, count in Counter(labels).items() if count > 1}
    # repeated labels get names of their own in channels.tsv: then the order speaks
    if len(labels) == len(names) == len(set(names)) and repeats:
        pairs = zip(labels, names, strict=True)
        if all(label == name or label in repeats for label, name in pairs):
            log.warning("%s: repeated labels %s are named by %s", path, _few(repeats), table.name)
            return list(range(len(labels)))
    only_file, only_table = Counter(labels), Counter(names)
    raise ReaderError(
        f"{table}: names differ from those of {path.name}: only in the file "
        f"{_few((only_file - only_table).elements()) or 'none'}; only in the table "
        f"{_few((only_table - only_file).elements()) or 'none'}; expected the same, mend the table"
    )


def _unique(path: Path, names: list[str]) -> list[str]:
    """Return names with a running number behind each that is there more than once, as mne does."""
    counts, seen, out = Counter(names), Counter[str](), []
    for name in names:
        if counts[name] == 1 and name:
            out.append(name)
            continue
        fresh = f"{name}-{seen[name]}"
        while fresh in counts:
            seen[name] += 1
            fresh = f"{name}-{seen[name]}"
        seen[name] += 1
        out.append(fresh)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        log.warning("%s: repeated labels %s got a number each", path, _few(repeated))
    return out


def _plain_units() -> list[str]:
    return ["V", "mV", "uV", "nV"]


def _few(names) -> str:
    """Return at most ten names, and how many more there are."""
    names = sorted(set(names))
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
