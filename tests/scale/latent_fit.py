"""Time of MM-GPVAE fits: on images, and on counts beside elephant's GPFA.

Usage: python tests/scale/latent_fit.py images [--device cpu] [--seed 0] [--published]
       python tests/scale/latent_fit.py counts [--device cpu] [--seed 0]

``images``: 300 trials of 60 frames of 36 x 36 pixels and 100 units, 240 to learn from; seconds a
step of the published network and of a smaller one, and a whole fit of the latter; with
``--published`` the whole published schedule too, 8,400 steps. ``counts``: 100 trials of 100 bins
of 60 units with three latents, 80 to learn from; every method in one process. Seconds are those of
the CPU, or on the clock where the device is a card.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from planted_latents import affine_r2, session, trials
from rotating_digits import digits

from neuropipe.baselines.smoothed_factors import SmoothedFactors
from neuropipe.models.mm_gpvae.estimator import MMGPVAE
from neuropipe.models.mm_gpvae.simulate import gp_latents

N_STEPS = 8400  # of the published schedule
SMALL = {"image_shape": (36, 36), "behavior_hidden": (128, 64)}
SCHEDULE = {"epochs": 25, "batch_size": 20, "learning_rate": 0.02}


def clock(device):
    """Return seconds so far: of this process, or on the clock once a card is idle."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def timed(device, call):
    """Return seconds of a call, and what it returned."""
    began = clock(device)
    found = call()
    return clock(device) - began, found


def images(device, seed, published):
    """Time the published network and a smaller one; score the latter on held-out trials."""
    drawn = digits(n_trials=300, seed=32 + seed)
    frames = drawn["frame"].reshape(-1, 1296)
    recording = session(drawn["count"].reshape(-1, 100), frames)
    train, test = (trials(recording, [60] * 300, a, b) for a, b in ((0, 240), (240, None)))

    def fit(settings, **schedule):
        training = {**settings.get("training", {}), **schedule}
        model = MMGPVAE(**{**settings, "training": training})
        return timed(device, lambda: model.fit([train], seed=seed, device=device))

    full = {"preset": "faithful", "image_shape": (36, 36)}
    small = {**SMALL, "align_share": 0.0, "training": SCHEDULE}
    for name, settings in (("published network", full), ("smaller network", small)):
        short, long = (fit(settings, epochs=n)[0] for n in (1, 3))
        step = (long - short) / 24  # of 12 steps an epoch
        print(f"{name}: {step:.4f} s a step, {step * N_STEPS / 60:.1f} min for {N_STEPS} steps")
    wanted = [("smaller network, whole fit", {**SMALL, "training": SCHEDULE})]
    if published:
        wanted.append(("published network and schedule, whole fit", full))
    seen = trials(recording, [60] * 300, 0, 60)
    for name, settings in wanted:
        seconds, model = fit(settings)
        found = [model.transform(r) for r in (seen, test)]
        latents = [f["latent"].values.astype(float) for f in found]
        levels = {
            k: affine_r2(latents, (drawn[k][:60].ravel(), drawn[k][240:].ravel()), [0, 1, 2])
            for k in ("shared", "neural", "zoom")
        }
        image, data = found[1]["behavior"].values, frames[240 * 60 :]
        levels["image"] = 1 - ((data - image) ** 2).sum() / ((data - data.mean()) ** 2).sum()
        told = ", ".join(f"{k} {v:.3f}" for k, v in levels.items())
        print(f"{name}: {seconds:.1f} s; held-out R2 {told}")


def elephant(sides, iterations):
    """Return a call that fits elephant's GPFA and infers the latents of both sides."""
    import neo
    import quantities as pq
    from elephant.gpfa import GPFA

    def trains(counts):
        at = (np.arange(counts.shape[1]) + 0.5) * 0.05
        stop = counts.shape[1] * 0.05
        return [
            [neo.SpikeTrain(np.repeat(at, c) * pq.s, t_stop=stop * pq.s) for c in trial.T]
            for trial in counts
        ]

    given = [trains(side) for side in sides]
    model = GPFA(bin_size=50 * pq.ms, x_dim=3, em_max_iters=iterations)
    return (
        lambda: model.fit(given[0]),
        lambda: [np.concatenate([x.T for x in model.transform(side)]) for side in given],
    )


def counts(device, seed):
    """Time fits and inference of every method, and score them on held-out trials."""
    rng = np.random.default_rng(seed)
    latent = gp_latents(rng, 100, 100, np.array([6.0, 10.0, 20.0]))
    loading = rng.standard_normal((60, 3)) * 0.5
    count = rng.poisson(np.exp(latent @ loading.T + np.log(rng.uniform(0.2, 1.0, 60))))
    truth = latent[:80].reshape(-1, 3), latent[80:].reshape(-1, 3)
    recording = session(count.reshape(-1, 60))
    sides = [trials(recording, [100] * 100, a, b) for a, b in ((0, 80), (80, None))]

    def ours(model, **where):
        return (
            lambda: model.fit([sides[0]], seed=seed, **where),
            lambda: [model.transform(side)["latent"].values.astype(float) for side in sides],
        )

    alone = {"modalities": "neural", "n_shared": 0, "n_neural": 3, "n_behavior": 0}
    methods = {
        "MM-GPVAE, neural latents alone": (ours(MMGPVAE(**alone), device=device), device),
        "smoothed factors, width chosen": (ours(SmoothedFactors(n_latents=3)), "cpu"),
        "elephant GPFA, 50 iterations": (elephant((count[:80], count[80:]), 50), "cpu"),
        "elephant GPFA, 500 iterations": (elephant((count[:80], count[80:]), 500), "cpu"),
    }
    for name, ((fit, infer), where) in methods.items():
        fitting, _ = timed(where, fit)
        inferring, found = timed(where, infer)
        r2 = [affine_r2(found, (truth[0][:, n], truth[1][:, n]), [0, 1, 2]) for n in range(3)]
        levels = " ".join(f"{x:.3f}" for x in r2)
        print(f"{name}: fit {fitting:.1f} s, all trials {inferring:.1f} s, R2 {levels}")


def main():
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["images", "counts"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--published", action="store_true")
    o = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if o.what == "images":
        images(o.device, o.seed, o.published)
    else:
        counts(o.device, o.seed)


if __name__ == "__main__":
    main()
