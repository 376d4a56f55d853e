"""Spoiled files of one format, read to their end in this process; run as a child of the test.

Usage: python fuzz_files.py FORMAT FOLDER FIRST LAST. Prints one line a file before it is opened, so
that a crash or a hang names its file, and a last line of counts.
"""

import faulthandler
import logging
import sys
import warnings
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from neuropipe.errors import ConfigError, NeuropipeError
from neuropipe.io import reader
from neuropipe.io.nwb_write import save

RATE = 200.0
HANGS_S = 150  # longer than a child is waited for


def nwb(folder):
    from pynwb import NWBFile, TimeSeries

    start = datetime(2020, 1, 1, tzinfo=UTC)
    file = NWBFile("d", "i", start, session_id="s", file_create_date=[start])
    for unit in range(3):
        file.add_unit(spike_times=np.arange(40) * 0.1 + unit)
    file.add_trial(start_time=0.0, stop_time=1.0)
    values = np.arange(300.0)
    file.add_acquisition(TimeSeries(name="speed", data=values, rate=50.0, unit="m/s"))
    save(file, folder / "a.nwb")  # the same bytes each time, so that a seed is one file
    return ["a.nwb"]


def nifti(folder, name="sub-01_task-x_bold.nii"):
    import nibabel

    rng = np.random.default_rng(0)
    data = rng.integers(100, 900, (5, 4, 3, 20)).astype(np.int16)
    image = nibabel.Nifti1Image(data, np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((3, 3, 3, 2.0))
    image.header.set_slope_inter(0.5, 3.0)
    nibabel.save(image, folder / name)
    (folder / "sub-01_task-x_bold.json").write_text('{"RepetitionTime": 2.0, "TaskName": "x"}')
    (folder / "sub-01_task-x_events.tsv").write_text("onset\tduration\ttrial_type\n1\t2\ta\n")
    return [name, "sub-01_task-x_bold.json", "sub-01_task-x_events.tsv"]


def nifti_gz(folder):
    return nifti(folder, "sub-01_task-x_bold.nii.gz")


def _signals():
    return 5e-5 * np.random.default_rng(1).standard_normal((int(4 * RATE), 3))


def edf(folder, bdf=False):
    import edfio

    kind, signal = (edfio.Bdf, edfio.BdfSignal) if bdf else (edfio.Edf, edfio.EdfSignal)
    parts = [
        signal(1e6 * values, RATE, label=f"A{i + 1}", physical_dimension="uV")
        for i, values in enumerate(_signals().T)
    ]
    marks = [edfio.EdfAnnotation(1.0, 0.5, "go")]
    name = f"sub-01_task-x_ieeg.{'bdf' if bdf else 'edf'}"
    kind(parts, annotations=marks, data_record_duration=1).write(folder / name)
    rows = "".join(f"A{i}\tSEEG\tuV\tgood\n" for i in (1, 2, 3))
    (folder / "sub-01_task-x_channels.tsv").write_text(f"name\ttype\tunits\tstatus\n{rows}")
    return [name, "sub-01_task-x_channels.tsv"]


def bdf(folder):
    return edf(folder, bdf=True)


def brainvision(folder):
    import pybv

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pybv.write_brainvision(
            data=_signals().T, sfreq=RATE, ch_names=["A1", "A2", "A3"], unit="µV",
            fname_base="sub-01_task-x_ieeg", folder_out=str(folder),
            events=[{"onset": 10, "duration": 1, "description": 1, "type": "Stimulus",
                     "channels": "all"}],
        )  # fmt: skip
    rows = "".join(f"A{i}\tSEEG\tuV\tgood\n" for i in (1, 2, 3))
    (folder / "sub-01_task-x_channels.tsv").write_text(f"name\ttype\tunits\tstatus\n{rows}")
    stem = "sub-01_task-x_ieeg"
    return [f"{stem}.vhdr", f"{stem}.vmrk", f"{stem}.eeg", "sub-01_task-x_channels.tsv"]


TRACES = {
    "calcium/cells": {
        "variable": "fluorescence", "array": "F", "dims": ["roi", "time"], "units": "1",
        "rate_hz": 10.0,
    }
}  # fmt: skip


def matlab(folder):
    from scipy.io import savemat

    savemat(folder / "a.mat", {"F": np.random.default_rng(2).random((4, 60)), "fs": 10.0})
    return ["a.mat"]


def hdf5(folder):
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file["F"] = np.random.default_rng(2).random((4, 60))
    return ["a.h5"]


# Format: what makes its files, the reader, its options.
FORMATS = {
    "nwb": (nwb, "nwb", {}),
    "nifti": (nifti, "bold", {}),
    "nifti_gz": (nifti_gz, "bold", {}),
    "edf": (edf, "ieeg", {}),
    "bdf": (bdf, "ieeg", {}),
    "brainvision": (brainvision, "ieeg", {}),
    "matlab": (matlab, "table", {"nodes": TRACES}),
    "hdf5": (hdf5, "table", {"nodes": TRACES}),
}


def spoil(content: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes with some flipped, cut off, added, repeated, zeroed or swapped."""
    data = bytearray(content)
    kind = rng.integers(7)
    # headers stand at the start: half of the faults go there
    reach = min(len(data), 600) if rng.random() < 0.5 else len(data)
    at, long = int(rng.integers(max(reach, 1))), int(rng.integers(1, 64))
    if kind == 0:
        for place in rng.integers(0, max(reach, 1), rng.integers(1, 9)):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[int(rng.integers(len(data))) :]
    elif kind == 2:
        data[at:at] = rng.bytes(long)
    elif kind == 3:
        del data[at : at + long]
    elif kind == 4:
        data[at : at + long] = bytes(len(data[at : at + long]))
    elif kind == 5:
        other = int(rng.integers(max(reach, 1)))
        data[at : at + long], data[other : other + long] = (
            data[other : other + long], data[at : at + long],
        )  # fmt: skip
    else:
        data[at : at + long] = rng.bytes(len(data[at : at + long]))
    return bytes(data)


def reference(kind, folder, files):
    """Return the samples that the format's own library reads, or None where it refuses."""
    main = folder / files[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if kind.startswith("nifti"):
                import nibabel

                image = nibabel.load(main)
                volumes = np.asarray(image.dataobj)
                return volumes.reshape(-1, volumes.shape[-1]).T
            if kind in ("edf", "bdf", "brainvision"):
                import mne

                load = {"edf": mne.io.read_raw_edf, "bdf": mne.io.read_raw_bdf,
                        "brainvision": mne.io.read_raw_brainvision}[kind]  # fmt: skip
                return load(main, verbose="error").get_data().T
            if kind == "nwb":
                from pynwb import NWBHDF5IO

                with NWBHDF5IO(str(main), "r") as io:
                    return np.concatenate([t[:] for t in io.read().units["spike_times"][:]])
        except Exception:
            return None
    return None


MAIN = {"bold": ("bold", "bold"), "ieeg": ("ieeg", "voltage"), "nwb": ("spikes", "spike_time")}


def same(recording, kind, name, told) -> bool:
    """Return whether a recording holds the numbers that the other library reads."""
    node, variable = MAIN[name]
    if node not in recording.children:
        return True
    own = recording[node][variable].values
    if own.shape != told.shape:
        return False
    return bool(np.allclose(own, told, rtol=1e-5, atol=1e-12, equal_nan=True))


def main(kind, folder, first, last):
    make, name, options = FORMATS[kind]
    whole = folder / "whole"
    whole.mkdir(parents=True, exist_ok=True)
    files = make(whole)
    contents = [(whole / file).read_bytes() for file in files]
    counts = Counter()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for seed in range(first, last):
        rng = np.random.default_rng([seed, len(kind)])
        target = int(rng.integers(len(files))) if rng.random() < 0.4 else 0
        home = folder / f"{seed}"
        home.mkdir()
        for place, (file, content) in enumerate(zip(files, contents, strict=True)):
            (home / file).write_bytes(spoil(content, rng) if place == target else content)
        print("open", seed, files[target], flush=True)
        faulthandler.dump_traceback_later(HANGS_S, exit=True)
        try:
            recording = reader(name)([home / file for file in files], **options).compute()
        except ConfigError as error:
            print("WRONG", seed, f"a spoiled file is no error of configuration: {error}")
            counts["wrong"] += 1
        except NeuropipeError:
            counts["refused"] += 1
        except Exception as error:
            print("WRONG", seed, f"{type(error).__name__}: {str(error)[:200]}", flush=True)
            counts["wrong"] += 1
        else:
            told = reference(kind, home, files) if target == 0 and name in MAIN else None
            if told is not None and not same(recording, kind, name, told):
                print("WRONG", seed, "other numbers than the format's own library", flush=True)
                counts["wrong"] += 1
            counts["read"] += 1
        faulthandler.cancel_dump_traceback_later()
        for file in files:
            (home / file).unlink()
    print("counts", dict(counts))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
