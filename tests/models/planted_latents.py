"""Prepared sessions with planted latents, and how well a fit finds them."""

import numpy as np
import xarray as xr

from neuropipe.batching.windows import attach_windows
from neuropipe.models.mm_gpvae.simulate import Plan, draw

WIDTH_S = 0.05
ONE, SECOND = {"units": "1"}, {"units": "s"}
KINDS = ("shared", "neural", "behavior")


def session(count, behavior=None, observed=None):
    """Return a recording of counts (bin, unit) and behaviour (bin, channel), end to end."""
    time = ("time", (np.arange(len(count)) + 0.5) * WIDTH_S, SECOND)
    unit = ("unit", np.arange(count.shape[1]), ONE)
    attrs = ONE | {"bin_width_s": WIDTH_S}
    node = xr.Dataset(
        {"spike_count": (("time", "unit"), count.astype(np.uint16), attrs)},
        {"time": time, "unit": unit},
    )
    if observed is not None:
        node["observed"] = ("time", observed, ONE)
    nodes = {"/": xr.Dataset(attrs={"session": "made", "subject": "m"}), "/counts": node}
    if behavior is not None:
        nodes["/behavior"] = xr.Dataset(
            {"joints": (("time", "joint"), behavior, {"units": "mm"})}, {"time": time}
        )
    return xr.DataTree.from_dict(nodes)


def trials(recording, lengths, first, last):
    """Return the recording with some of its consecutive trials, in bins, as windows."""
    edges = np.concatenate([[0], np.cumsum(lengths)]) * WIDTH_S
    return attach_windows(recording, np.stack([edges[:-1], edges[1:]], 1)[first:last])


class Planted:
    """One draw: a recording, its trials and its latents."""

    def __init__(self, seed, n_train, n_test, change=None, **plan):
        planned = Plan(n_trials=n_train + n_test, **plan)
        drawn = draw(planned, seed)
        if change is not None:
            change(drawn, np.random.default_rng(seed + 100))
        flat = {k: v.reshape(-1, v.shape[-1]) for k, v in drawn.items() if v.ndim == 3}
        self.n_train, self.lengths = n_train, [planned.n_bins] * planned.n_trials
        self.recording = session(flat["count"], flat["behavior"])
        self.latent, self.flat = flat["latent"], flat
        self.train = trials(self.recording, self.lengths, 0, n_train)
        self.test = trials(self.recording, self.lengths, n_train, None)

    def recovery(self, model, kinds=KINDS):
        """R2 of each planted latent on held-out trials, by affine maps fitted on training ones.

        Returns
        -------
        dict of (span, best one of its kind)
        """
        cut = self.n_train * self.lengths[0]
        found = [model.transform(r) for r in (self.train, self.test)]
        latents = [f["latent"].values.astype(float) for f in found]
        kind = found[0]["kind"].values
        out = {}
        for n, name in enumerate(kinds):
            truth = self.latent[:cut, n], self.latent[cut:, n]
            own = [affine_r2(latents, truth, [d]) for d in np.flatnonzero(kind == name)]
            every = list(range(len(kind)))
            out[name] = affine_r2(latents, truth, every), max(own, default=np.nan)
        return out


def affine_r2(found, truth, columns):
    """R2 on the second part of `found` and `truth` by an affine map fitted on the first."""
    a, b = (np.column_stack([f[:, columns], np.ones(len(f))]) for f in found)
    weight = np.linalg.lstsq(a, truth[0], rcond=None)[0]
    about = ((truth[1] - truth[1].mean()) ** 2).sum()
    return float(1 - ((truth[1] - b @ weight) ** 2).sum() / about)
