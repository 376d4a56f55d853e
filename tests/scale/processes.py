"""One fit on several processes: the same numbers as on one, and how much sooner they are there.

Usage: python tests/scale/processes.py [--processes 2] [--device cpu|cuda] [--models hmm_glm ...]
       python tests/scale/processes.py --scaling --processes 2 4 8 --device cuda

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
JUMPS = {"contact_p"}  # a share of shuffles: it follows the smallest difference by whole steps
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
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": path,
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    subprocess.run([*start, __file__, *map(str, words)], check=True, env=environment)


def difference(one, several):
    """Return the largest difference of each variable, relative to its largest value."""
    out = {}
    for name in one.keys() - JUMPS:
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


def timed(step, warm, times, device):
    """Return the seconds of a step, the median over several."""
    import torch

    def now():
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    for _ in range(warm):
        step()
    found = []
    for _ in range(times):
        began = now()
        step()
        found.append(now() - began)
    return float(np.median(found))


def em_step(size, device):
    """An iteration of EM: 16 * size sequences of 1000 bins, 20 neurons, 3 states, 2 restarts."""
    import torch

    from neuropipe.models.hmm_glm.config import Config
    from neuropipe.models.hmm_glm.model import Batch, e_step, m_step
    from neuropipe.models.hmm_glm.search import form_of, one_state, own, random_start
    from neuropipe.runtime import float_policy, generator

    rng = np.random.default_rng(0)
    n, length = 20, 1000
    lengths = torch.full((16 * size,), length, device=device)
    counts = rng.poisson(0.2, (16 * size * length, n))
    features = np.roll(counts, 1, 0)
    where = {"device": device, "dtype": float_policy(torch.device(device))}
    batch = Batch(
        torch.as_tensor(features).to(**where), torch.as_tensor(counts).to(**where),
        torch.ones(len(counts), dtype=torch.bool, device=device), lengths,
    )  # fmt: skip
    config = Config(n_states=3, link="sigmoid", n_restarts=2)
    form = form_of(config, "gaussian")
    start = random_start(
        batch, one_state(batch, form), form, 3, config, generator(0, "start")
    )  # fmt: skip
    mine = own(batch)
    return lambda: m_step(mine, start, e_step(mine, start, form), form, 3)


def hals_step(size, device):
    """A sweep of HALS: 8 animals, 200 * size windows, 200 neurons, rank 8, 4 starts."""
    import torch

    from neuropipe.models.ntf_connectome.affinity import energy
    from neuropipe.models.ntf_connectome.entries import Entries
    from neuropipe.models.ntf_connectome.model import random_start, sweep
    from neuropipe.runtime import generator

    n_windows, animals, n = 200 * size, 8, 200
    d = torch.as_tensor(np.random.default_rng(0).normal(size=(animals * n_windows, n)))
    d = d.float().to(device)
    rows = tuple(slice(w * n_windows, (w + 1) * n_windows) for w in range(animals))
    x = Entries(
        d, "geo", torch.arange(n_windows, device=device).repeat(animals), n_windows, rows,
        torch.zeros(len(d), dtype=torch.int64, device=device),
        torch.ones(1, n, dtype=torch.bool, device=device), energy(d, "geo"),
    )  # fmt: skip
    mine = x.share().stored("stored")
    f = random_start(x, 8, 4, generator(0, "start"))
    gram = mine.gram_of_pairs(f.pair)
    return lambda: sweep(mine, f, gram, "hals", 3)


def gradient_step(size, device):
    """A step of the masked network of Du-IN, 64 * size windows; on cards of published size."""
    import torch

    from neuropipe.models.du_in.model import MaskedNet, Sizes
    from neuropipe.training import processes

    torch.manual_seed(0)
    small = {"filters": (32, 32, 16), "n_layers": 2, "n_heads": 4, "head_dim": 16, "n_codes": 32}
    sizes = Sizes(1, 10, dropout=0.0, **(small if size == 1 else {}))
    net = MaskedNet(sizes).to(device)
    rows = processes.share(range(64 * size))
    x = torch.randn(64 * size, 2000, 10)[rows.start : rows.stop].to(device)
    want = torch.randint(sizes.n_codes, (64 * size, 20))[rows.start : rows.stop].to(device)
    subject = torch.zeros(len(x), dtype=torch.int64, device=device)
    loss = processes.parallel(net, lambda batch: net.loss(batch, subject, want))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)

    def step():
        optimizer.zero_grad()
        processes.seed_step(0)
        (loss(x)["loss"] * processes.count()).backward()
        optimizer.step()

    return step


STEPS = {"em": em_step, "hals": hals_step, "gradient": gradient_step}


def time_steps(names, folder, device, size):
    """Time each step in this process, or in all that torchrun has started."""
    import torch

    from neuropipe.training.processes import is_first, joined, together

    torch.set_num_threads(1)
    with joined(torch.device(device)), together():
        found = {name: timed(STEPS[name](size, device), 2, 8, device) for name in names}
        if is_first():
            (folder / "seconds.json").write_text(json.dumps(found))


def scaling(names, counts, device, size, folder):
    """Print how long a step takes on so many processes, and how much sooner it is done."""
    table = {}
    for count in counts:
        (folder / str(count)).mkdir()
        launch(count, "--time", folder / str(count), "--device", device, "--size", size,
               "--steps", *names)  # fmt: skip
        table[count] = json.loads((folder / str(count) / "seconds.json").read_text())
    print(f"{'step':16} {'processes':>9} {'s a step':>10} {'speed-up':>9}")
    for name in names:
        for count in counts:
            gain = table[counts[0]][name] / table[count][name]
            print(f"{name:16} {count:9} {table[count][name]:10.4f} {gain:9.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", default=list(SMALL), choices=list(SMALL))
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--size", type=int, help="of the work that is timed; 1, on cards 16")
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--time", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    size = asked.size or (16 if asked.device.startswith("cuda") else 1)
    if asked.time:
        time_steps(asked.steps, asked.time, asked.device, size)
        return
    if asked.scaling:
        with tempfile.TemporaryDirectory() as folder:
            counts = sorted({1, *asked.processes})
            scaling(asked.steps, counts, asked.device, size, Path(folder))
        return
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
