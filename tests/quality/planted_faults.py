"""Recordings with one known fault of each kind, and the same without any."""

import dask.array as da
import numpy as np
import xarray as xr

S, ONE, TEXT = {"units": "s"}, {"units": "1"}, {"units": ""}


def tree(**nodes):
    """Recording of these datasets; a double underscore in a name is a slash."""
    made = xr.DataTree.from_dict({f"/{k.replace('__', '/')}": v for k, v in nodes.items()})
    made.attrs = {"session": "planted", "subject": "m1", "history": "[]"}
    return made


def clock(n, rate_hz, start_s=0.0):
    return {"time": ("time", start_s + np.arange(n) / rate_hz, S)}


def spikes(faults=True, seed=0, minutes=10):
    """Six units: regular ones at 2 to 12 Hz, then contaminated, lost halfway, all but silent."""
    rng = np.random.default_rng(seed)
    stop = 60.0 * minutes

    def train(rate_hz):
        gaps = 0.002 + rng.exponential(1 / rate_hz, int(2 * rate_hz * stop))
        times = gaps.cumsum()
        return times[times < stop]

    trains = [train(rate) for rate in (2.0, 5.0, 12.0, 4.0, 6.0, 3.0)]
    if faults:
        trains[3] = np.sort(np.concatenate([trains[3], trains[3][::5] + 0.001]))
        trains[4] = trains[4][trains[4] < stop / 2]
        trains[5] = trains[5][:1]
    index = np.repeat(np.arange(6), [len(t) for t in trains]).astype(np.int32)
    times = da.from_array(np.concatenate(trains), chunks=5000)
    return tree(
        spikes=xr.Dataset({"spike_time": ("spike", times, S), "unit_index": ("spike", index, ONE)}),
        units=xr.Dataset(coords={"unit": ("unit", 10 + np.arange(6), ONE)}),
        behavior__gaze=_gaze(stop, faults),
        trials=_trials(stop, faults),
    )


def _gaze(stop, faults):
    n = int(stop * 10)
    x = np.sin(np.arange(n) / 50)
    if faults:
        x[: n // 3] = np.nan
    return xr.Dataset({"x": ("time", x, {"units": "deg"})}, clock(n, 10.0))


def _trials(stop, faults):
    start = np.arange(1.0, stop - 5, 10.0)
    length = np.full(len(start), 4.0)
    if faults:
        start[3] = np.nan
        length[6] = 14.0
        start[-1] = stop + 100
    return xr.Dataset(
        {"start_time": ("trial", start, S), "stop_time": ("trial", start + length, S)}
    )


def ieeg(faults=True, seed=0, seconds=60, rate_hz=500.0):
    """Twelve channels of pink noise, 50 uV: c1 flat, c2 clipped, c3 hum, c4 huge, c5 holes."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate_hz)
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / rate_hz), 0.5)
    noise = np.fft.rfft(rng.normal(size=(n, 12)), axis=0) / frequency[:, None] ** 0.5
    x = np.fft.irfft(noise, n, axis=0)
    x *= 50e-6 / x.std(0)
    time = np.arange(n) / rate_hz
    names = [f"c{i}" for i in range(12)]
    status = ["good"] * 12
    if faults:
        x[:, 1] = 0.0
        x[:, 2] = np.clip(x[:, 2], -40e-6, 40e-6)
        x[:, 3] += 300e-6 * np.sin(2 * np.pi * 60 * time)
        x[:, 4] *= 40
        x[: n // 2, 5] = np.nan
        time[n // 2 :] += 5.0
        status[1] = status[4] = status[7] = "bad"
    node = xr.Dataset(
        {"voltage": (("time", "channel"), da.from_array(x.astype(np.float32), (7000, -1)),
                     {"units": "V"})},
        {
            "time": ("time", time, S),
            "channel": ("channel", np.array(names, object), TEXT),
            "status": ("channel", np.array(status, object), TEXT),
            "channel_type": ("channel", np.array(["SEEG"] * 12, object), TEXT),
        },
        {"sampling_rate_hz": rate_hz, "power_line_frequency_hz": 60.0},
    )  # fmt: skip
    return tree(ieeg=node)


def bold(faults=True, seed=0, volumes=60, side=12):
    """Two runs of a ball of voxels; in run 2 a dummy scan, motion, dead, empty and noisy voxels."""
    rng = np.random.default_rng(seed)
    grid = np.argwhere(np.ones((side, side, side), bool))
    ball = grid[((grid - (side - 1) / 2) ** 2).sum(1) < (side / 2) ** 2]
    voxels = len(ball)
    x = 1000 + 10 * rng.normal(size=(2 * volumes, voxels))
    fd = 0.1 + 0.05 * rng.random((2 * volumes, 1))
    fd[0] = fd[volumes] = np.nan
    if faults:
        x[volumes] *= 1.3
        x[volumes + 20 : volumes + 28] += rng.normal(size=(8, voxels)) * 200
        x[volumes:, : voxels // 2] += rng.normal(size=(volumes, voxels // 2)) * 100
        fd[volumes + 10 : volumes + 35] = 1.0
        x[:, :60] = 5.0
        x[volumes + 3, 80] = np.nan
    start = [0.0, 200.0]
    time = np.concatenate([s + 2.0 * np.arange(volumes) for s in start])
    place = {k: ("voxel", ball[:, i], ONE) for i, k in enumerate("ijk")}
    place |= {k: ("voxel", 3.0 * ball[:, i], {"units": "mm"}) for i, k in enumerate("xyz")}
    data = da.from_array(x.astype(np.float32), (17, -1))
    return tree(
        bold=xr.Dataset(
            {"bold": (("time", "voxel"), data, ONE)},
            {"time": ("time", time, S), **place},
            {"repetition_time_s": 2.0, "grid_shape": [side] * 3},
        ),
        confounds=xr.Dataset(
            {"confound_value": (("time", "confound"), fd, {"units": "mixed"})},
            {
                "time": ("time", time, S),
                "confound": ("confound", np.array(["framewise_displacement"], object), TEXT),
                "confound_unit": ("confound", np.array(["mm"], object), TEXT),
            },
        ),
        runs=xr.Dataset(
            {
                "run_label": ("run", np.array(["1", "2"], object), TEXT),
                "start_time": ("run", np.array(start), S),
                "stop_time": ("run", np.array(start) + 2.0 * volumes, S),
            }
        ),
    )


def calcium(faults=True, seed=0, rois=20, seconds=120, rate_hz=20.0):
    """Traces with decaying transients; roi 0 noise only, roi 1 saturated, roi 2 with holes."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate_hz)
    events = rng.random((n, rois)) < 0.008
    kernel = np.exp(-np.arange(60) / 12)
    clean = np.stack([np.convolve(events[:, i], kernel)[:n] for i in range(rois)], 1)
    x = 100 + 80 * clean + 4 * rng.normal(size=(n, rois))
    if faults:
        x[:, 0] = 100 + 10 * rng.normal(size=n)
        x[:, 1] = np.minimum(x[:, 1], 120)
        x[200:500, 2] = np.nan
    data = da.from_array(x.astype(np.float32), (700, -1))
    node = xr.Dataset(
        {"fluorescence": (("time", "roi"), data, ONE)},
        clock(n, rate_hz),
        {"sampling_rate_hz": rate_hz, "clock_residual_ms": 50.0 if faults else 0.5},
    )
    return tree(calcium__ca1=node)


PLANTED = {"spikes": spikes, "ieeg": ieeg, "bold": bold, "calcium": calcium}
