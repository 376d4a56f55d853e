"""Time one EM iteration of a plain Poisson HMM and of the population GLM-HMM, peers beside them.

    python kernels/benchmarks/em_iteration.py [--device cpu] [--sizes small,large] [--out FILE]

Peers (ssm, dynamax) are timed where they can be imported; nobody offers a population GLM-HMM.
Pin the process to one core (``taskset -c 0``) to compare at equal threads.
"""

import argparse
import importlib.util
import inspect
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from neuropipe_kernels import hmm_fb

from neuropipe.baselines.poisson_hmm import log_emission, log_factorials, rates
from neuropipe.batching.history import filter_history, history_basis
from neuropipe.models.hmm_glm.model import Batch, Form, Parameters, e_step, m_step

SIZES = {"tiny": (2_000, 3, 5), "small": (20_000, 5, 20), "large": (1_000_000, 5, 100)}
COLUMNS = ("model", "who", "bins", "states", "units", "seconds", "device", "threads", "versions")


def counts_of(n_bins: int, n_states: int, n_units: int) -> np.ndarray:
    """Draw sticky states with rates of their own."""
    rng = np.random.default_rng(0)
    state = (rng.random(n_bins) < 0.02).cumsum() % n_states
    return rng.poisson(rng.uniform(0.1, 0.9, (n_states, n_units))[state]).astype(float)


def chain(n_states: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a sticky transition matrix and a uniform start."""
    transition = torch.full((n_states, n_states), 0.02 / (n_states - 1), dtype=torch.float64)
    transition.fill_diagonal_(0.98)
    initial = torch.full((n_states,), 1 / n_states, dtype=torch.float64)
    return transition.to(device), initial.to(device)


def median(call, device: str, repeats: int = 5) -> float:
    """Return the median seconds of a call, after one that warms up."""
    call()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return float(np.median(found))


def own_hmm(counts: np.ndarray, n_states: int, device: str) -> float:
    """Time E-step and M-step of the baseline `poisson_hmm`."""
    data = torch.as_tensor(counts, device=device)[None]
    observed = torch.ones(data.shape[:2], dtype=torch.bool, device=device)
    constant = log_factorials(data)
    transition, initial = chain(n_states, device)
    mean = data.mean((0, 1))
    rate = mean * torch.linspace(0.7, 1.3, n_states, dtype=torch.float64, device=device)[:, None]

    def iteration() -> None:
        posterior = hmm_fb(log_emission(data, observed, rate, constant), transition, initial)
        rates(posterior.state_probability, data, mean)

    return median(iteration, device)


def own_glm(counts: np.ndarray, n_states: int, device: str) -> float:
    """Time E-step and M-step of the HMM-GLM, three quasi-Newton steps."""
    dtype = torch.float64 if device == "cpu" else torch.float32
    features = filter_history(counts, history_basis("exponential", 5, 1))
    n_units = counts.shape[1]
    batch = Batch(
        torch.as_tensor(features, dtype=dtype, device=device),
        torch.as_tensor(counts, dtype=dtype, device=device),
        torch.ones(len(counts), dtype=torch.bool, device=device),
        torch.tensor([len(counts)], device=device),
    )
    generator = torch.Generator().manual_seed(0)
    transition, initial = chain(n_states, device)
    weight = 0.05 * torch.randn(1, n_states, n_units, n_units, generator=generator)
    level = torch.linspace(-1, 1, n_states)[None, :, None].expand(1, n_states, n_units)
    parameters = Parameters(
        weight.to(device, dtype), level.to(device, dtype).contiguous(), transition[None].to(dtype),
        initial[None].to(dtype), torch.ones(1, n_units, dtype=dtype, device=device),
    )  # fmt: skip
    form = Form(share_bias=False, prior_sd=1 / 3)

    def iteration() -> None:
        posterior = e_step(batch, parameters, form)
        m_step(batch, parameters, posterior, form, 3)

    return median(iteration, device, 3)


def dynamax_hmm(counts: np.ndarray, n_states: int) -> float:
    """Time dynamax: the difference of two fits, so that compilation drops out."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from dynamax.hidden_markov_model import PoissonHMM

    model = PoissonHMM(n_states, counts.shape[1])
    start, properties = model.initialize(jax.random.PRNGKey(0))
    more = 202 if len(counts) < 100_000 else 6  # compilation takes seconds, and varies

    def run(n: int) -> float:
        began = time.perf_counter()
        fitted = model.fit_em(start, properties, counts, num_iters=n, verbose=False)
        jax.block_until_ready(fitted)
        return time.perf_counter() - began

    run(2)
    return (run(more) - run(2)) / (more - 2)


def ssm_hmm(counts: np.ndarray, n_states: int) -> float:
    """Time ssm likewise; its releases differ in how they call the number of iterations."""
    import ssm

    more = 12 if len(counts) < 100_000 else 4
    known = inspect.signature(ssm.HMM._fit_em).parameters
    name = "num_iters" if "num_iters" in known else "num_em_iters"

    def run(n: int) -> float:
        np.random.seed(0)  # noqa: NPY002 (the library draws from the global state)
        model = ssm.HMM(n_states, counts.shape[1], observations="poisson")
        began = time.perf_counter()
        model.fit(counts.astype(int), method="em", initialize=False, **{name: n})
        return time.perf_counter() - began

    run(2)
    return (run(more) - run(2)) / (more - 2)


def main() -> None:
    """Time everything that can be imported and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", default="small,large")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    peers = {"dynamax": dynamax_hmm, "ssm": ssm_hmm} if options.device == "cpu" else {}
    peers = {name: f for name, f in peers.items() if importlib.util.find_spec(name)}
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    versions = f"torch {torch.__version__}, python {platform.python_version()}"
    rows = ["\t".join(COLUMNS)]
    for size in options.sizes.split(","):
        n_bins, n_states, n_units = SIZES[size]
        counts = counts_of(n_bins, n_states, n_units)
        timers = {
            ("Poisson HMM", "neuropipe"): (
                lambda c=counts, k=n_states: own_hmm(c, k, options.device)
            ),
            **{("Poisson HMM", n): lambda c=counts, k=n_states, f=f: f(c, k)
               for n, f in peers.items()},
            ("GLM-HMM", "neuropipe"): lambda c=counts, k=n_states: own_glm(c, k, options.device),
        }  # fmt: skip
        for (model, who), timer in timers.items():
            row = (model, who, n_bins, n_states, n_units, f"{timer():.5f}", options.device, threads,
                   versions)  # fmt: skip
            rows.append("\t".join(map(str, row)))
            print(rows[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
