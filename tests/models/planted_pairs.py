"""Small planted sessions of counts and behaviour, for the baselines beside the MM-GPVAE."""

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from neuropipe.batching.windows import attach_windows

WIDTH_S = 0.02


def drawn(lengths, n_units=24, seed=0, sd_bins=8.0):
    """Latents (bin, 3), counts (bin, unit) and behaviour (bin, 4) of trials of these lengths.

    The first two latents drive the units, the last two the behaviour, so one is shared.
    """
    rng = np.random.default_rng(seed)
    latent = np.concatenate([
        gaussian_filter1d(rng.normal(size=(n + 100, 3)), sd_bins, axis=0)[50:-50] for n in lengths
    ])  # fmt: skip
    latent /= latent.std(0)
    loading = rng.normal(0, 0.6, (n_units, 2))
    rate = np.exp(latent[:, :2] @ loading.T + np.log(rng.uniform(0.3, 1.0, n_units)))
    mixing = rng.normal(size=(2, 4))
    behavior = latent[:, 1:] @ mixing + 0.3 * rng.normal(size=(len(latent), 4))
    return latent, rng.poisson(rate), behavior


def session(lengths, counts, behavior=None, observed=None):
    """A prepared recording of trials one after the other, and their edges in s."""
    time = (np.arange(sum(lengths)) + 0.5) * WIDTH_S
    units = {"units": "1"}
    node = xr.Dataset(
        {"spike_count": (("time", "unit"), counts, {**units, "bin_width_s": WIDTH_S})},
        {
            "time": ("time", time, {"units": "s"}),
            "unit": ("unit", np.arange(counts.shape[1]), units),
        },
    )
    if observed is not None:
        node["observed"] = ("time", observed, units)
    nodes = {"counts": node}
    if behavior is not None:
        nodes["behavior"] = xr.Dataset(
            {"limb": (("time", "axis"), behavior, {"units": "mm"})},
            {"time": ("time", time, {"units": "s"})},
        )
    tree = xr.DataTree.from_dict(nodes)
    tree.attrs = {"dataset": "planted", "subject": "a", "session": "a1"}
    edges = np.concatenate([[0], np.cumsum(lengths)]) * WIDTH_S
    return tree, np.stack([edges[:-1], edges[1:]], 1)


def sides(tree, edges, n_train):
    """The recording with the first trials as windows, and with the rest."""
    return attach_windows(tree, edges[:n_train]), attach_windows(tree, edges[n_train:])


def recovered(found, truth, found_held, truth_held):
    """R2 of each planted latent on held-out bins, by an affine map fitted on training bins."""
    a, b = (np.column_stack([x, np.ones(len(x))]) for x in (found, found_held))
    weight = np.linalg.lstsq(a, truth, rcond=None)[0]
    about = ((truth_held - truth_held.mean(0)) ** 2).sum(0)
    return 1 - ((truth_held - b @ weight) ** 2).sum(0) / about
