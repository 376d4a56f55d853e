"""Time sweeps of the NTF connectome, beside tensorly from the same start, and what they hold.

python kernels/benchmarks/ntf_fit.py stored        300 times, 5 animals, 40,000 pairs, 10 components
python kernels/benchmarks/ntf_fit.py affinities --units 1000 --times 2000 --animals 5

``stored``: a tensor of non-negative factors with noise of 10 %. ``affinities``: of white
derivatives, made on the way, or stored for those who need them so (``--by``). Every method runs in
a process of its own, so that its peak memory, data included, is its own; float32.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import torch

from neuropipe.models.ntf_connectome.affinity import all_pairs, energy
from neuropipe.models.ntf_connectome.entries import Entries, of_tensor
from neuropipe.models.ntf_connectome.model import random_start, sweep

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
METHODS = {
    "stored": ("ours stored", "tensorly hals", "tensorly mu"),
    "affinities": ("ours on the way", "ours stored", "tensorly hals"),
}


def peak_mib() -> float:
    """Return the largest memory so far, of the device where there is one."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def now() -> float:
    """Return seconds once the device is idle; of CPU time without one, which others do not take."""
    if DEVICE != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def planted(o: argparse.Namespace) -> np.ndarray:
    """Draw (time, animal, pair): ten non-negative factors, and noise of a tenth of its sd."""
    rng = np.random.default_rng(0)
    truth = [rng.random((n, o.rank), dtype=np.float32) for n in (o.times, o.animals, o.pairs)]
    value = np.empty((o.times, o.animals, o.pairs), np.float32)
    for t, row in enumerate(truth[0]):  # one time at once: nothing of the tensor's size beside it
        np.matmul(row * truth[1], truth[2].T, out=value[t])
    sd = np.float32(0.1 * np.sqrt(np.mean([v.var() for v in value])))
    for part in value:
        part += sd * rng.standard_normal(part.shape, dtype=np.float32)
        np.maximum(part, 0, out=part)
    return value


def derivatives(o: argparse.Namespace) -> Entries:
    """Draw white derivatives of all animals."""
    g = torch.Generator().manual_seed(0)
    d = torch.randn(o.animals * o.times, o.units, generator=g).to(DEVICE)
    return Entries(
        d, "geo", torch.arange(o.times, device=DEVICE).repeat(o.animals), o.times,
        tuple(slice(w * o.times, (w + 1) * o.times) for w in range(o.animals)),
        torch.zeros(len(d), dtype=torch.int64, device=DEVICE),
        torch.ones(1, o.units, dtype=torch.bool, device=DEVICE), energy(d, "geo"),
    )  # fmt: skip


def as_tensor(x: Entries) -> np.ndarray:
    """Return the affinities (time, animal, pair)."""
    value = np.empty((x.n_times, len(x.rows_of), x.n_pairs), np.float32)
    for row in range(len(x.data)):
        value[x.time[row], x.animal[row]] = all_pairs(x.data[row : row + 1], x.form)[0]
    return value


def ours(x: Entries, o: argparse.Namespace) -> tuple[float, float]:
    """Sweep; return seconds a sweep, the first one on a device left out, and the last error."""
    f = random_start(x, o.rank, 1, np.random.default_rng(1))
    of_pairs = x.gram_of_pairs(f.pair)
    began, error = now(), torch.ones(1)
    for n in range(o.sweeps):
        f, of_pairs, error = sweep(x, f, of_pairs, "hals", 3)
        if n == 0 and DEVICE == "cuda":  # kernels are compiled and chosen
            began = now()
    return (now() - began) / (o.sweeps - (DEVICE == "cuda")), float(error)


def theirs(value: np.ndarray, o: argparse.Namespace, rule: str) -> tuple[float, float]:
    """Sweep by tensorly; return seconds a sweep and the last error."""
    from tensorly.cp_tensor import CPTensor
    from tensorly.decomposition import non_negative_parafac, non_negative_parafac_hals

    rng = np.random.default_rng(1)
    start = [rng.random((1, n, o.rank))[0].astype(np.float32) for n in value.shape]
    begin = CPTensor((np.ones(o.rank, np.float32), start))
    fit = {"mu": non_negative_parafac, "hals": non_negative_parafac_hals}[rule]
    began = now()
    _, errors = fit(value, o.rank, n_iter_max=o.sweeps, init=begin, tol=1e-30, return_errors=True)
    return (now() - began) / len(errors), float(errors[-1])


def alone(o: argparse.Namespace) -> dict[str, float]:
    """Run one method in this process."""
    if o.what == "stored":
        value = planted(o)
        data: Entries | None = of_tensor(torch.as_tensor(value).to(DEVICE)) if o.ours else None
    else:
        data = derivatives(o)
        value = np.empty(0) if o.ours else as_tensor(data)
        data = data.stored("stored") if o.alone == "ours stored" else data
    if o.ours and data is not None:
        took, error = ours(data, o)
    else:
        took, error = theirs(value, o, o.alone.split()[-1])
    return {"seconds": took, "error": error, "mib": peak_mib()}


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=list(METHODS))
    parser.add_argument("--by", nargs="+", help="methods; all without it")
    parser.add_argument("--alone", help="one method, in this process")
    for name, default in (("units", 1000), ("animals", 5), ("sweeps", 20), ("pairs", 40000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("times", "rank"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--precision", default="highest", help="of float32 products on a device")
    o = parser.parse_args()
    o.times = o.times or {"stored": 300, "affinities": 2000}[o.what]
    o.rank = o.rank or {"stored": 10, "affinities": 8}[o.what]
    torch.set_float32_matmul_precision(o.precision)
    if o.alone:
        o.ours = o.alone.startswith("ours")
        print(json.dumps(alone(o)))
        return
    n_pairs = o.pairs if o.what == "stored" else o.units * (o.units - 1) // 2
    size = 4 * o.times * o.animals * n_pairs / 2**30
    print(f"{o.times} times, {o.animals} animals, {n_pairs} pairs, rank {o.rank}: {size:.2f} GiB")
    for method in o.by or METHODS[o.what]:
        again = [sys.executable, __file__, *sys.argv[1:], "--alone", method]
        said = subprocess.run(again, capture_output=True, text=True)
        if said.returncode:  # a method that cannot hold the tensor is one of the results
            print(f"{method:16s} failed ({said.returncode}): {said.stderr[-200:].strip()}")
            continue
        found = json.loads(said.stdout.splitlines()[-1])
        print(
            f"{method:16s} {found['seconds']:.4f} s a sweep, error {found['error']:.4f} after "
            f"{o.sweeps}, {found['mib']:.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
