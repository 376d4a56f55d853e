"""Time and peak memory of long recordings: made here, ingested, prepared, beside a plain copy.

Usage: python tests/scale/recordings.py --kind bold --gb 1.25 5 20 [--folder DIR]

Files are sparse: one block in 16 holds noise, the rest are zeros, so 20 GB need little disk; the
code reads and computes every byte all the same. Each verb runs as a job of its own; its peak
memory is that of its process and children. The fraction is the time of copying the same bytes over
the time of the job.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

EVERY = 16
COPIED = 2 * 10**9  # bytes; the rate of longer files is taken from them
BLOCK = 16 * 2**20
RATE_HZ = 2000.0
N_CHANNELS = 128
GRID = (64, 64, 36)
VOLUMES = 1000  # of a run


def sparse(path: Path, header: bytes, n_bytes: int, noise: bytes) -> None:
    """Write a file of zeros with a block of noise every now and then."""
    with path.open("wb") as stream:
        stream.write(header)
        start = stream.tell()
        stream.truncate(start + n_bytes)
        for at in range(0, n_bytes - len(noise), EVERY * BLOCK):
            stream.seek(start + at)
            stream.write(noise)


def make_bold(folder: Path, n_bytes: int) -> list[Path]:
    """Write runs of a thousand volumes of int16 BOLD as bare NIfTI."""
    import nibabel

    n_voxels = int(np.prod(GRID))
    noise = np.random.default_rng(0).integers(900, 1100, (8, n_voxels)).astype("<i2").tobytes()
    left = n_bytes // (2 * n_voxels)
    paths = []
    while left > 0:
        n_volumes = min(left, VOLUMES)
        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.int16)
        header.set_data_shape((*GRID, n_volumes))
        header.set_zooms((3, 3, 3, 1.0))
        header.set_xyzt_units("mm", "sec")
        header.set_sform(np.diag([3.0, 3.0, 3.0, 1.0]), code=1)
        header["vox_offset"], header["magic"] = 352, b"n+1"
        paths.append(folder / f"run{len(paths):03d}.nii")
        sparse(paths[-1], header.binaryblock + bytes(4), 2 * n_voxels * n_volumes, noise)
        left -= n_volumes
    return paths


def make_ieeg(folder: Path, n_bytes: int) -> list[Path]:
    """Write BrainVision, float32, multiplexed."""
    import pybv

    rng = np.random.default_rng(0)
    names = [f"{shaft}{n + 1}" for shaft in "ABCDEFGH" for n in range(N_CHANNELS // 8)]
    noise = 50 * rng.standard_normal((8192, N_CHANNELS)).astype("<f4")
    pybv.write_brainvision(
        data=1e-6 * noise[:1000].T, sfreq=RATE_HZ, ch_names=names, fname_base="long",
        folder_out=str(folder), unit="µV", resolution=1.0,
    )  # fmt: skip
    rows = n_bytes // (4 * N_CHANNELS)
    sparse(folder / "long.eeg", b"", rows * 4 * N_CHANNELS, noise.tobytes())
    return [folder / "long.vhdr", folder / "long.eeg", folder / "long.vmrk"]


def make_nwb(folder: Path, n_bytes: int) -> list[Path]:
    """Write an ElectricalSeries of int16 whose chunks are mostly not there."""
    from datetime import UTC, datetime

    import h5py
    from hdmf.backends.hdf5 import H5DataIO
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.ecephys import ElectricalSeries

    file = NWBFile("long", "long", datetime(2020, 1, 1, tzinfo=UTC), session_id="long")
    device = file.create_device("d")
    group = file.create_electrode_group("A", "shaft", "CA1", device)
    for _ in range(N_CHANNELS):
        file.add_electrode(location="CA1", group=group)
    rows = n_bytes // (2 * N_CHANNELS)
    data = H5DataIO(shape=(rows, N_CHANNELS), dtype=np.int16, chunks=(8192, N_CHANNELS))
    region = file.create_electrode_table_region(list(range(N_CHANNELS)), "all")
    file.add_acquisition(
        ElectricalSeries(
            name="lfp",
            data=data,
            electrodes=region,
            rate=RATE_HZ,
            starting_time=0.0,
            conversion=1e-6,
        )
    )
    path = folder / "long.nwb"
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    noise = np.random.default_rng(0).integers(-200, 200, (8192, N_CHANNELS)).astype(np.int16)
    with h5py.File(path, "r+") as stored:
        data = stored["acquisition/lfp/data"]
        for at in range(0, rows - 8192, EVERY * 8192):
            data[at : at + 8192] = noise
    return [path]


KINDS = {
    "bold": (make_bold, "bold", [{"step": "clean_bold", "high_pass_hz": 0.008}]),
    "ieeg": (
        make_ieeg,
        "ieeg",
        [
            {"step": "rereference", "scheme": "average"},
            {"step": "filter_signal", "low_hz": 0.5, "high_hz": 200.0},
        ],
    ),
    "nwb": (
        make_nwb,
        "nwb",
        [
            {"step": "select_channels", "node": "ephys/lfp"},
            {"step": "filter_signal", "low_hz": 1.0, "high_hz": 300.0, "method": "iir"},
        ],
    ),
}


def job(*words: object) -> tuple[float, float]:
    """Run a verb; return seconds and peak memory in MB of the process and its children."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "neuropipe.cli", *map(str, words)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    said = child.stderr.read()
    if status:
        raise SystemExit(f"{words[0]} failed: {said[-2000:]}")
    return seconds, used.ru_maxrss / 1024


def copied(source: Path, target: Path) -> float:
    """Return the seconds of copying a file, every byte read and written; of long ones a part."""
    start = time.perf_counter()
    done = 0
    with source.open("rb") as inward, target.open("wb") as outward:
        while done < COPIED and (block := inward.read(BLOCK)):
            outward.write(block)
            done += len(block)
        outward.flush()
        os.fsync(outward.fileno())
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds * source.stat().st_size / done


def main() -> None:
    """Measure the kinds and sizes asked for; one line of a Markdown table each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--gb", nargs="+", type=float, default=[1.25, 5.0, 20.0])
    parser.add_argument("--verb", nargs="+", default=["ingest", "quality", "preprocess"])
    parser.add_argument("--folder", type=Path, default=Path("scale"))
    given = parser.parse_args()
    print("| kind | GB | copy s | verb | s | of the copy's speed | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in given.kind:
        make, reader, steps = KINDS[kind]
        for size in given.gb:
            folder = given.folder / f"{kind}-{size:g}"
            folder.mkdir(parents=True)
            files = make(folder, int(size * 1e9))
            # one file of the whole size, however many there are and whatever HDF5 leaves out
            twin = folder / "whole"
            sparse(twin, b"", int(size * 1e9), b"\1" * 1024)
            copy_s = copied(twin, folder / "copy")
            twin.unlink()
            receipt = {
                "status": "fetched", "dataset": "long", "session": "s", "subject": "m",
                "reader": reader, "options": {}, "sha256": "0" * 64,
                "files": [{"path": str(f), "sha256": "0" * 64} for f in files],
            }  # fmt: skip
            (folder / "receipt.json").write_text(json.dumps(receipt))
            store, prepared = folder / "a.zarr", folder / "b.zarr"
            verbs = {
                "ingest": ("ingest", folder / "receipt.json", "--output", store),
                "quality": ("quality", store, "--output", folder / "q.tsv"),
                "preprocess": (
                    "preprocess", store, "--steps", json.dumps(steps), "--output", prepared,
                ),
            }  # fmt: skip
            for verb, words in verbs.items():
                if verb not in given.verb:
                    continue
                seconds, peak_mb = job(*words)
                share = copy_s / seconds
                print(
                    f"| {kind} | {size:g} | {copy_s:.1f} | {verb} | {seconds:.1f} | {share:.2f} | "
                    f"{peak_mb:.0f} |",
                    flush=True,
                )
            subprocess.run(["rm", "-r", str(folder)], check=True)


if __name__ == "__main__":
    main()
