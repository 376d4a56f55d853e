"""Made sessions of single-trial amplitudes: subjects of unequal voxels who saw named stimuli."""

import numpy as np
import xarray as xr

ONE, SECOND = {"units": "1"}, {"units": "s"}


def shown(names, n_voxels=6, seed=0, *, subject="s1", session="", signal=1.0, codes=None,
          interval_s=4.0, length_s=2.0, n_features=5, text=None, **columns):  # fmt: skip
    """Recording with betas (trial, voxel) that follow the codes of the stimuli.

    names : (trial,) of stimuli; codes, text : mapping of name to features, drawn by default
    """
    rng = np.random.default_rng([seed, n_voxels])
    names = np.array(names, object)
    unique = list(dict.fromkeys(names))
    if codes is None:  # whoever sees it, a stimulus has the same features
        codes = {n: np.random.default_rng(list(n.encode())).normal(size=n_features) for n in unique}
    features = np.stack([codes[n] for n in unique]).astype(np.float32)
    at = [unique.index(n) for n in names]
    mix = rng.normal(size=(features.shape[1], n_voxels))
    beta = signal * features[at] @ mix + rng.normal(size=(len(names), n_voxels)) + 3
    start = interval_s * np.arange(len(names))
    grid = {a: ("voxel", np.arange(n_voxels, dtype=np.int32), ONE) for a in "ijk"}
    stimulus = ("stimulus", np.array(unique, object), {"units": ""})
    nodes = {
        "/": xr.Dataset(attrs={"dataset": "made", "subject": subject,
                               "session": session or f"{subject}-1"}),
        "/betas": xr.Dataset(
            {
                "beta": (("trial", "voxel"), beta.astype(np.float32), {"units": "%"}),
                "start_time": ("trial", start, SECOND),
                "stop_time": ("trial", start + length_s, SECOND),
                "stimulus": ("trial", names, {"units": ""}),
                **{name: ("trial", np.array(values, object), {"units": ""})
                   for name, values in columns.items()},
            },
            grid,
        ),
        "/embedding": xr.Dataset(
            {"embedding": (("stimulus", "feature"), features, ONE)}, {"stimulus": stimulus}
        ),
    }  # fmt: skip
    if text is not None:
        values = np.stack([text[n] for n in unique]).astype(np.float32)
        nodes["/text_embedding"] = xr.Dataset(
            {"embedding": (("stimulus", "feature"), values, ONE)}, {"stimulus": stimulus}
        )
    return xr.DataTree.from_dict(nodes)
