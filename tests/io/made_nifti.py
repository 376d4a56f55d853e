"""Small BIDS trees of BOLD runs whose every value is known."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np

GRID = (4, 3, 2)
# first axis runs from right to left, as many scanners write it
FLIPPED = np.array([[-3.0, 0, 0, 6], [0, 2.5, 0, -10], [0, 0, 4, 1], [0, 0, 0, 1]])


def volumes(n=10, seed=0, grid=GRID):
    """Return values around 1000, (i, j, k, volume)."""
    return 1000 + 50 * np.random.default_rng(seed).standard_normal((*grid, n)).astype(np.float32)


def save(path, values, *, tr=2.0, units="sec", affine=FLIPPED, dtype=np.float32, scale=None):
    """Write an image; `scale` is (slope, intercept) of stored int16 values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.asarray(values, dtype), affine)
    if np.ndim(values) == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
    image.header.set_xyzt_units("mm", units)
    if scale is not None:
        image.header.set_slope_inter(*scale)
    nib.save(image, path)
    if scale is not None:  # nibabel writes what it was given as if it were unscaled
        raw = bytearray(path.read_bytes())
        raw[112:120] = np.array(scale, "<f4").tobytes()
        stored = np.asarray(values, "<i2").tobytes(order="F")
        path.write_bytes(bytes(raw[:352]) + stored)
    return path


def tree(folder, n_runs=2, n=10, tr=2.0, ending=".nii.gz", **sidecar):
    """Return the folder of a raw data set: runs of task `look`, their events and JSON."""
    folder = Path(folder)
    func = folder / "sub-01" / "func"
    func.mkdir(parents=True)
    about = {"Name": "made", "BIDSVersion": "1.9.0"}
    (folder / "dataset_description.json").write_text(json.dumps(about))
    for run in range(1, n_runs + 1):
        stem = f"sub-01_task-look_run-{run}"
        save(func / f"{stem}_bold{ending}", volumes(n, seed=run), tr=tr)
        about = {"TaskName": "look", "RepetitionTime": tr, **sidecar}
        (func / f"{stem}_bold.json").write_text(json.dumps(about))
        rows = [f"{2.0 * run}\t1\tface", f"{3.0 * run}\tn/a\thouse"]
        table = "\n".join(["onset\tduration\ttrial_type", *rows]) + "\n"
        (func / f"{stem}_events.tsv").write_text(table)
    return folder


def confounds(folder, run, columns):
    """Write the confounds of a run of `tree`."""
    path = Path(folder) / "sub-01" / "func"
    path = path / f"sub-01_task-look_run-{run}_desc-confounds_timeseries.tsv"
    rows = zip(*columns.values(), strict=True)
    text = [
        "\t".join(columns), *("\t".join("n/a" if np.isnan(v) else f"{v}" for v in r) for r in rows)
    ]  # fmt: skip
    path.write_text("\n".join(text) + "\n")
    return path
