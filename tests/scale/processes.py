"""One fit on several processes: the same numbers as on one, and how much sooner they are there.

Usage: python tests/scale/processes.py [--processes 2] [--device cpu|cuda] [--models hmm_glm ...]
       python tests/scale/processes.py --scaling --processes 1 2 4 8 --device cuda

The first fits each model on a small planted session, with one process and with several, and ends
with 1 where they differ by more than `TOLERANCE`. The second times training steps of a network,
iterations of EM and sweeps of HALS on data that are large enough to share, the work of a step the
same however many processes there are (strong scaling).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
# Relative to the largest value of a variable. Sums are taken in another order, in float32 for
# networks and in float64 for EM and HALS, and small differences grow over the steps of a fit.
TOLERANCE = {
    "hmm_glm": 1e-9, "ntf_connectome": 1e-9, "mm_gpvae": 1e-4, "neuroformer": 1e-4,
    "mindbridge": 1e-4, "du_in": 1e-3,
}  # fmt: skip
ON_CARDS = 1e-2  # where EM and HALS sum in float32 as well, and no sum has an order


def counted(made, width_s, first, *more):
    """Prepare a simulated session, and attach its first trials as windows."""
    from neuropipe.batching.windows import attach_windows
    from neuropipe.preprocess import apply_steps

    steps = [{"step": "bin_spikes", "bin_width_s": width_s, "start_s": 0.0}, *more]
    made = apply_steps(made, steps)
    if first is None:
        return made
    trials = made["trials"]
    edges = np.stack([trials["start_time"].values, trials["stop_time"].values], 1)
    return attach_windows(made, edges[:first])


def hmm_glm():
    from neuropipe.models.hmm_glm.estimator import HMMGLM
    from neuropipe.models.hmm_glm.simulate import Plan, simulate

    made, _ = simulate(Plan(n_states=2, n_units=5, n_bins=400, n_sequences=5), seed=3)
    model = HMMGLM(n_states=2, link="sigmoid", n_restarts=2, screen_iterations=6, max_iterations=10)
    return model, [counted(made, 0.02, 5)]


def ntf_connectome():
    from neuropipe.models.ntf_connectome.estimator import NTFConnectome
    from neuropipe.models.ntf_connectome.simulate import Plan, simulate

    plan = {"n_animals": 3, "n_units": 16, "n_windows": 60, "n_groups": 2, "missing": 0.1}
    made = [simulate(Plan(animal=w + 1, **plan), 1)[0] for w in range(3)]
    model = NTFConnectome(rank=(2, 3), n_restarts=2, max_sweeps=30, communities="none",
                          held_out_repeats=1, n_shuffles=1)  # fmt: skip
    return model, made


def mm_gpvae():
    from neuropipe.models.mm_gpvae.estimator import MMGPVAE
    from neuropipe.models.mm_gpvae.simulate import Plan, simulate

    made, _ = simulate(Plan(n_trials=48, n_bins=20, n_units=8, n_channels=4), seed=1)
    model = MMGPVAE(n_shared=1, n_neural=1, n_behavior=1, n_restarts=1,
                    training={"epochs": 3, "batch_size": 5, "learning_rate": 0.01})  # fmt: skip
    return model, [counted(made, 0.05, 48, {"step": "resample_behavior", "signals": ["joints"]})]


def neuroformer():
    from neuropipe.models.neuroformer.estimator import Neuroformer
    from neuropipe.models.neuroformer.simulate import Plan, simulate

    plan = Plan(n_units=8, n_hubs=1, fan_out=3, duration_s=20, frame_height=4, frame_width=6)
    made, _ = simulate(plan, seed=1)
    made = counted(made, 0.01, None, {"step": "resample_behavior", "signals": ["speed"]})
    model = Neuroformer(
        stimulus="stimulus/bar", patch=(2, 2), targets=("speed",), covariates=(), width=16,
        layers_past=1, layers_state=1, dropout=0.0, connectivity=(), n_samples=1,
        training={"epochs": 2, "batch_size": 33},
    )  # fmt: skip
    return model, [made]


def mindbridge():
    from shown_sessions import shown

    from neuropipe.models.mindbridge.estimator import MindBridge

    names = [f"n{i}" for i in range(24)]
    made = [shown(names, 6 + s, s, subject=f"s{s}") for s in range(2)]
    model = MindBridge(pool_size=5, hidden=8, start=("random",), block_dropout=0.0,
                       embedder_dropout=0.0, training={"epochs": 3, "batch_size": 7})  # fmt: skip
    return model, made


def du_in():
    from planted_words import TINY, sides, words

    from neuropipe.models.du_in.estimator import DuIN

    made, _ = words(3, n_words=3, n_repetitions=6, n_channels=4)
    # A bias before a batch normalisation has no gradient but rounding, which Adam scales up to a
    # whole step: with long ones a token between two codes takes the one or the other.
    slow = {stage: {"epochs": 2, "batch_size": 8, "learning_rate": 1e-4}
            for stage in ("units", "masked", "decode")}  # fmt: skip
    return DuIN(**{**TINY, **slow, "dropout": 0.0}), [sides(made)[0]]


SMALL = {f.__name__: f for f in (hmm_glm, ntf_connectome, mm_gpvae, neuroformer, mindbridge, du_in)}


def fit_small(names, folder, device):
    """Fit models in this process, or in all that torchrun has started; the first one writes."""
    import torch

    from neuropipe.training.processes import is_first, joined

    sys.path += [str(TESTS / "models"), str(TESTS / "batching")]
    torch.set_num_threads(1)
    with joined(torch.device(device)):
        for name in names:
            model, recordings = SMALL[name]()
            began = time.monotonic()
            model.fit(recordings, seed=5, device=device)
            found = {**model.parameters_, "objective": model.history_["objective"]}
            if is_first():
                numbers = {k: v.values for k, v in found.items() if v.dtype.kind in "fiu"}
                np.savez(folder / f"{name}.npz", **numbers)
                print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


def launch(n, *words):
    """Run this file again on so many processes."""
    start = [sys.executable]
    if n > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    code = os.pathsep.join([str(TESTS.parent), str(TESTS.parent / "kernels")])
    path = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    subprocess.run([*start, __file__, *map(str, words)], check=True, env=environment)


def difference(one, several):
    """Return the largest difference of each variable, relative to its largest value."""
    out = {}
    for name in one:
        a, b = one[name].astype(float), several[name].astype(float)
        assert a.shape == b.shape, f"{name}: {a.shape} and {b.shape}"
        assert np.array_equal(np.isnan(a), np.isnan(b)), name
        scale = max(float(np.nanmax(np.abs(a), initial=0.0)), 1e-12)
        out[name] = float(np.nanmax(np.abs(a - b), initial=0.0)) / scale
    return out


def allowed(name, device):
    """Return the largest relative difference that rounding explains."""
    return ON_CARDS if device.startswith("cuda") else TOLERANCE[name]


def compare(names, n, device, folder):
    """Return each model's largest relative difference between one process and several."""
    for count in (1, n):
        (folder / str(count)).mkdir()
        launch(count, "--worker", folder / str(count), "--device", device, "--models", *names)
    out = {}
    for name in names:
        one, several = (dict(np.load(folder / str(c) / f"{name}.npz")) for c in (1, n))
        apart = difference(one, several)
        out[name] = max(apart.values())
        worst = max(apart, key=apart.get)
        print(f"{name}: {out[name]:.2e} at most ({worst}), allowed {allowed(name, device):.0e}")
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", default=list(SMALL), choices=list(SMALL))
    parser.add_argument("--worker", type=Path)
    asked = parser.parse_args()
    if asked.worker:
        fit_small(asked.models, asked.worker, asked.device)
        return
    failed = []
    for n in asked.processes:
        with tempfile.TemporaryDirectory() as folder:
            apart = compare(asked.models, n, asked.device, Path(folder))
        failed += [
            name for name, value in apart.items() if not value <= allowed(name, asked.device)
        ]
    if failed:
        raise SystemExit(f"not the same numbers: {json.dumps(failed)}")


if __name__ == "__main__":
    main()
