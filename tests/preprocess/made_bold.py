"""Small BOLD recordings whose every value is known, lazy or not."""

import dask.array as da
import nibabel as nib
import numpy as np
import xarray as xr

SECOND, ONE, TEXT = {"units": "s"}, {"units": "1"}, {"units": ""}
GRID = (4, 3, 2)
AFFINE = np.array([[-3.0, 0, 0, 6], [0, 2.5, 0, -10], [0, 0, 4, 1], [0, 0, 0, 1]])


def bold(values, *, runs=1, tr=2.0, chunks=None, grid=GRID, gap_s=0.0):
    """Recording of equal runs, (time, voxel); voxels fill the grid in the order of numpy."""
    values = np.asarray(values, np.float32)
    n, n_voxels = values.shape
    per_run = n // runs
    data = values if chunks is None else da.from_array(values, chunks=chunks)
    start = np.arange(runs) * (per_run * tr + gap_s)
    time = (start[:, None] + np.arange(per_run) * tr).ravel()
    index = np.array(np.unravel_index(np.arange(n_voxels), grid))
    world = AFFINE[:3, :3] @ index + AFFINE[:3, 3:]
    coords = {a: ("voxel", i.astype(np.int32), ONE) for a, i in zip("ijk", index, strict=True)}
    coords |= {a: ("voxel", w, {"units": "mm"}) for a, w in zip("xyz", world, strict=True)}
    attrs = {
        "affine": AFFINE.ravel().tolist(), "grid_shape": list(grid), "repetition_time_s": tr,
        "reference_time_s": 0.0, "space": "native", "task": "look",
    }  # fmt: skip
    node = xr.Dataset(
        {"bold": (("time", "voxel"), data, ONE)}, {"time": ("time", time, SECOND), **coords}, attrs
    )
    labels = np.array([f"{run + 1}" for run in range(runs)], object)
    about = xr.Dataset(
        {
            "run_label": ("run", labels, TEXT),
            "start_time": ("run", start, SECOND),
            "stop_time": ("run", start + per_run * tr, SECOND),
        }
    )
    root = xr.Dataset(attrs={"session": "made-7", "subject": "m1", "history": "[]"})
    return xr.DataTree.from_dict({"/": root, "/bold": node, "/runs": about})


def with_values(recording, data):
    """Put other values, such as a lazy array, in node bold."""
    node = recording["bold"].to_dataset(inherit=False)
    recording["bold"].dataset = node.assign(bold=(("time", "voxel"), data, ONE))
    return recording


def with_confounds(recording, **columns):
    """Add node confounds; each column covers all volumes."""
    names = np.array(list(columns), object)
    values = np.column_stack([np.asarray(c, float) for c in columns.values()])
    recording["confounds"] = xr.DataTree(
        xr.Dataset(
            {"confound_value": (("time", "confound"), da.from_array(values), {"units": "mixed"})},
            {
                "time": recording["bold"]["time"].variable,
                "confound": ("confound", names, TEXT),
                "confound_unit": ("confound", np.full(len(names), "1", object), TEXT),
            },
        )
    )
    return recording


def with_trials(recording, onset_s, duration_s, trial_type, run):
    """Add intervals/events; onsets are within the runs, `run` counts from 0."""
    begun = recording["runs/start_time"].values[np.asarray(run)]
    start = begun + np.asarray(onset_s, float)
    labels = recording["runs/run_label"].values[np.asarray(run)]
    recording["intervals/events"] = xr.DataTree(
        xr.Dataset(
            {
                "start_time": ("interval", start, SECOND),
                "stop_time": ("interval", start + np.asarray(duration_s, float), SECOND),
                "run_label": ("interval", labels, TEXT),
                "trial_type": ("interval", np.array(trial_type, object), TEXT),
            }
        )
    )
    return recording


def noise(n=60, n_voxels=24, seed=0, level=1000.0):
    """Drifting noise around a level of its own for each voxel."""
    random = np.random.default_rng(seed)
    time = np.linspace(-1, 1, n)[:, None]
    drift = time * random.normal(0, 20, n_voxels) + np.cos(3 * time) * random.normal(0, 9, n_voxels)
    mean = level * (1 + 0.2 * random.random(n_voxels))
    return (mean + drift + random.normal(0, 5, (n, n_voxels))).astype(np.float32)


def image(path, values, affine=AFFINE):
    """Write a 3-D file and return its path as text."""
    nib.save(nib.Nifti1Image(np.asarray(values), affine), path)
    return str(path)
