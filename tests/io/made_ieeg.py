"""Small iEEG files of every format, written by the libraries that define them, as BIDS trees."""

import json
import warnings

import numpy as np

RATE = 256.0
MARKS = [(1.5, None, "word"), (2.25, 0.5, "täst")]


def signals(n_channels=4, seconds=8, rate=RATE, seed=0):
    """Return (time, channel), V: noise of 50 uV with a slow wave."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    return 5e-5 * rng.standard_normal((len(time), n_channels)) + 1e-4 * np.sin(time)[:, None]


def names(n_channels):
    """Return contacts of two shafts, A1 A2 ... B1 B2 ..."""
    half = (n_channels + 1) // 2
    return [f"A{i + 1}" for i in range(half)] + [f"B{i + 1}" for i in range(n_channels - half)]


def write_edf(path, volts, labels=None, rate=RATE, unit="uV", others=(), marks=None, bdf=False):
    """Write EDF, EDF+ (with marks) or BDF; `others` are (label, values, rate, unit)."""
    import edfio

    kind, signal = (edfio.Bdf, edfio.BdfSignal) if bdf else (edfio.Edf, edfio.EdfSignal)
    labels = labels or names(volts.shape[1])
    scale = {"V": 1.0, "mV": 1e3, "uV": 1e6}.get(unit, 1e6)
    parts = [
        signal(volts[:, i] * scale, rate, label=labels[i], physical_dimension=unit)
        for i in range(volts.shape[1])
    ]
    parts += [signal(v, r, label=name, physical_dimension=u) for name, v, r, u in others]
    annotations = None if marks is None else [edfio.EdfAnnotation(*mark) for mark in marks]
    kind(parts, annotations=annotations, data_record_duration=1).write(path)
    return path


def write_brainvision(folder, name, volts, labels=None, marks=(), **options):
    """Write a BrainVision triplet; marks are (onset sample, duration samples, code)."""
    import pybv

    events = [
        {"onset": at, "duration": long, "description": code, "type": "Stimulus", "channels": "all"}
        for at, long, code in marks
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pybv says of resolutions is not under test
        pybv.write_brainvision(
            data=volts.T, sfreq=RATE, ch_names=labels or names(volts.shape[1]), fname_base=name,
            folder_out=str(folder), events=events or None, **{"unit": "µV", **options},
        )  # fmt: skip
    return folder / f"{name}.vhdr"


def bids_tree(root, subject="01"):
    """Return the iEEG folder of a new tree, and the first part of names in it."""
    folder = root / f"sub-{subject}" / "ieeg"
    folder.mkdir(parents=True)
    (root / "dataset_description.json").write_text(
        json.dumps({"Name": "m", "BIDSVersion": "1.9.0"})
    )
    return folder, f"sub-{subject}_task-words"


def channels_tsv(path, rows, columns=("name", "type", "units", "status")):
    """Write channels.tsv; rows are tuples in the order of the columns."""
    table(path, columns, rows)


def table(path, columns, rows):
    """Write a tab-separated table."""
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def tsv_beside(path, **changes):
    """Write channels.tsv of four SEEG channels for a recording in a BIDS tree."""
    rows = [[n, "SEEG", "µV", "good"] for n in names(4)]
    for name, row in changes.items():
        rows[names(4).index(name)] = row
    base = path.name.rsplit("_", 1)[0]
    channels_tsv(path.with_name(f"{base}_channels.tsv"), [row for row in rows if row])
