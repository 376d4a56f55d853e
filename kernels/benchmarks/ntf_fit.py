"""Time sweeps of the NTF connectome: against tensorly on a stored tensor, and on the way.

python kernels/benchmarks/ntf_fit.py stored [--sweeps 20]
python kernels/benchmarks/ntf_fit.py on_the_fly [--units 1000 --times 2000 --animals 5]

``stored``: 300 times, 5 animals, 40,000 pairs, 10 components, noise of 10 %, float32.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch

from neuropipe.models.ntf_connectome.affinity import energy
from neuropipe.models.ntf_connectome.entries import Entries, of_tensor
from neuropipe.models.ntf_connectome.model import factorise, random_start, sweep

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def peak() -> str:
    """Return the largest memory so far."""
    if DEVICE == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MiB on the device"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB"


def now() -> float:
    """Return seconds once the device is idle."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def stored(sweeps: int) -> None:
    """Fit a noisy tensor by this project and by tensorly from the same start."""
    rng = np.random.default_rng(0)
    truth = [rng.random((n, 10), dtype=np.float32) for n in (300, 5, 40000)]
    value = np.einsum("tr,wr,pr->twp", *truth, optimize=True)
    noise = rng.standard_normal(value.shape, dtype=np.float32)
    value = np.maximum(value + noise * (0.1 * value.std()), 0)
    del noise
    x = of_tensor(torch.as_tensor(value).to(DEVICE))
    start = random_start(x, 10, 1, np.random.default_rng(1))
    sweep(x, start, x.gram_of_pairs(start.pair), "hals", 3)
    began = now()
    done = factorise(x, start, max_sweeps=sweeps, tolerance=0)
    print(f"ours: {(now() - began) / sweeps:.4f} s a sweep, error {float(done.error[-1]):.4f}")
    from tensorly.cp_tensor import CPTensor
    from tensorly.decomposition import non_negative_parafac_hals

    begin = CPTensor((np.ones(10, np.float32), [f[0].cpu().numpy() for f in start]))
    began = now()
    _, errors = non_negative_parafac_hals(
        value, 10, n_iter_max=sweeps, init=begin, tol=1e-30, return_errors=True
    )
    took = (now() - began) / len(errors)
    print(f"tensorly on the CPU: {took:.4f} s a sweep, error {float(errors[-1]):.4f}; {peak()}")


def on_the_fly(units: int, times: int, animals: int, rank: int, sweeps: int) -> None:
    """Sweep affinities that are never stored."""
    g = torch.Generator().manual_seed(0)
    d = torch.randn(animals * times, units, generator=g).to(DEVICE)
    x = Entries(
        d, "geo", torch.arange(times, device=DEVICE).repeat(animals), times,
        tuple(slice(w * times, (w + 1) * times) for w in range(animals)),
        torch.zeros(len(d), dtype=torch.int64, device=DEVICE),
        torch.ones(1, units, dtype=torch.bool, device=DEVICE), energy(d, "geo"),
    )  # fmt: skip
    f = random_start(x, rank, 1, np.random.default_rng(0))
    of_pairs = x.gram_of_pairs(f.pair)
    for precision in ("highest", "high")[: 2 if DEVICE == "cuda" else 1]:
        torch.set_float32_matmul_precision(precision)
        took = []
        for _ in range(sweeps):
            began = now()
            f, of_pairs, error = sweep(x, f, of_pairs, "hals", 3)
            took.append(now() - began)
        size = 4 * len(d) * units * (units - 1) / 2 / 2**30
        print(
            f"on the way, {precision}: {min(took):.4f} s a sweep, error {float(error):.4f}, "
            f"{peak()}; the tensor would take {size:.1f} GiB"
        )


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["stored", "on_the_fly"])
    for name, default in (("units", 1000), ("times", 2000), ("animals", 5), ("rank", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--sweeps", type=int, default=20)
    o = parser.parse_args()
    if o.what == "stored":
        stored(o.sweeps)
    else:
        on_the_fly(o.units, o.times, o.animals, o.rank, o.sweeps)


if __name__ == "__main__":
    main()
