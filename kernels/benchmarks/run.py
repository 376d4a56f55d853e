"""Time one op against its reference, torch.compile and outside peers; parity comes first.

python kernels/benchmarks/run.py --op hmm_fb [--out DIR] [--peers FILE.py] [--smoke] [--once]

A peers file defines fb_loop, fb_chunk, vit_loop and vit_chunk as plain functions of
(log_likelihood, transition, initial[, chunk]). Without CUDA only --smoke makes sense: it
runs tiny shapes through every row. --once calls our own form of each case three times and times
nothing, for a profiler.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import triton
from lowrank_rows import lowrank_rows
from neuropipe_kernels import OPS
from timing import Row, ceilings, device, double, graph, milliseconds, relative
from vq_rows import vq_rows

COLUMNS = (
    "op", "shape", "pass", "row", "ms", "floor_ms", "ratio", "err", "note",
    "gpu", "torch", "triton", "cuda", "date",
)  # fmt: skip


def chain_rows(
    op: Callable[..., Any], cases: ModuleType, case: Any, peers: ModuleType | None
) -> Iterator[tuple[str, float, list[Row]]]:
    """Rows of hmm_fb and viterbi: (pass, factor on the work, rows)."""
    inputs = cases.make(case, device())
    ours = "fused" if device() == "cuda" else "reference"
    want = op(**double(inputs), backend="reference")
    got = op(**inputs, backend=ours)
    error = max(cases.errors(got, want, inputs).values())
    rows = [
        Row("ours", lambda: op(**inputs, backend=ours), error),
        Row("ours, graph", graph(lambda: op(**inputs, backend=ours)), error),
        Row("reference", lambda: op(**inputs, backend="reference"), 0.0, "float64"),
    ]
    if peers is not None:
        rows += list(chain_peers(op.__name__, cases, case, peers, inputs, want))
    yield "forward", 1.0, rows


def chain_peers(
    name: str, cases: ModuleType, case: Any, peers: ModuleType, inputs: dict[str, Any], want: Any
) -> Iterator[Row]:
    """Peers' loop and chunked scans, under a CUDA graph, which is their best form."""
    args = inputs["log_likelihood"], inputs["transition"], inputs["initial"]
    short = "fb" if name == "hmm_fb" else "vit"
    ways = {}
    if case.n_bins <= 2000:
        loop = getattr(peers, f"{short}_loop")
        ways["peer loop"] = lambda: loop(*args)
    if name == "hmm_fb" or case.n_sequences == 1:
        scan = getattr(peers, f"{short}_chunk")
        sizes = [c for c in (10, 25, 64, 256, 512, 1024) if case.n_bins % c == 0]
        near = 2 * case.n_bins**0.5 / case.n_sequences**0.5
        # Two lengths around the balance of steps and width; both are reported.
        for size in sorted(sizes, key=lambda c: abs(c - near) / c)[:2]:
            ways[f"peer chunked scan, chunks of {size}"] = lambda s=size: scan(*args, s)
    for label, call in ways.items():
        out = call()
        if name == "hmm_fb":
            error = relative(out, want)
        else:
            gap = cases.path_score(out, inputs) - want.log_score
            error = float((gap / want.log_score).abs().max())
        yield Row(label, call, error, "eager")
        try:
            yield Row(label, graph(call), error, "graph")
        except (RuntimeError, torch.OutOfMemoryError) as fault:
            print(f"# {label}: no graph, {str(fault).splitlines()[0][:80]}")


def plain_glm(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, counts: torch.Tensor, **_: Any
) -> torch.Tensor:
    """The shortest softplus Poisson log likelihood, the best thing to hand to torch.compile."""
    n_states, n_neurons, n_features = weight.shape
    eta = (features @ weight.view(-1, n_features).T).view(-1, n_states, n_neurons) + bias
    rate = torch.nn.functional.softplus(eta)
    factorial = torch.lgamma(counts + 1).sum(-1, keepdim=True)
    return (counts[:, None] * rate.log() - rate).sum(-1) - factorial


def glm_rows(
    op: Callable[..., Any], cases: ModuleType, case: Any, peers: ModuleType | None
) -> Iterator[tuple[str, float, list[Row]]]:
    """Rows of glm_ll: forward alone, and forward with the gradient by weight and bias."""
    inputs = cases.make(case, device())
    g = torch.softmax(torch.randn(case.n_bins, case.n_states, device=device()), -1)
    ours = "fused" if device() == "cuda" else "reference"
    torch.compiler.reset()
    compiled = torch.compile(plain_glm, dynamic=False)

    def through(f: Callable[..., Any], backend: str | None) -> Callable[..., Any]:
        def call(values: dict[str, Any]) -> torch.Tensor:
            if backend:
                return f(**values, backend=backend)
            return f(**values)

        return call

    forms = {
        "ours": through(op, ours),
        "reference": through(op, "reference"),
        "product and epilogue, compiled": through(compiled, None),
    }

    def gradient(f: Callable[..., Any], values: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        leaves = [values[n].detach().requires_grad_() for n in cases.GRADIENTS]
        ll = f({**values, **dict(zip(cases.GRADIENTS, leaves, strict=True))})
        return ll.detach(), *torch.autograd.grad(ll, leaves, g.to(ll.dtype))

    def forward(f: Callable[..., Any], values: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return (f(values),)

    for label, run, factor in (("forward", forward, 1.0), ("forward+gradient", gradient, 2.0)):
        want = run(forms["reference"], double(inputs))
        rows = []
        for precision in ("high", "highest"):
            torch.set_float32_matmul_precision(precision)
            note = "tf32" if precision == "high" else "float32"
            for name, form in forms.items():
                if name != "ours" and case.n_bins > 1 << 17 and precision == "highest":
                    continue

                def call(f: Any = form, p: str = precision, go: Any = run) -> Any:
                    torch.set_float32_matmul_precision(p)
                    return go(f, inputs)

                error = relative(call(), want)
                rows.append(Row(name, call, error, note))
                if case.n_bins < 1 << 17:
                    rows.append(Row(f"{name}, graph", graph(call), error, note))
        yield label, factor, rows
        torch.set_float32_matmul_precision("highest")


def fft_filter(x: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    """Filter (time, channel) by a sampled impulse response (lag,), the peer of sos_scan."""
    n = 1 << (x.shape[0] + response.shape[0] - 1).bit_length()
    spectrum = torch.fft.rfft(x, n, 0) * torch.fft.rfft(response, n)[:, None]
    return torch.fft.irfft(spectrum, n, 0)[: x.shape[0]]


def sos_rows(
    op: Callable[..., Any], cases: ModuleType, case: Any, peers: ModuleType | None
) -> Iterator[tuple[str, float, list[Row]]]:
    """Rows of sos_scan, beside convolution through the FFT and CuPy where it is installed."""
    inputs = cases.make(case, device())
    ours = "fused" if device() == "cuda" else "reference"
    want = op(**double(inputs), backend="reference")
    error = max(cases.errors(op(**inputs, backend=ours), want, inputs).values())
    x, sos = inputs["x"], inputs["sos"]
    impulse = torch.zeros(min(case.n_bins, 1 << 15), 1, dtype=torch.float64, device=x.device)
    impulse[0] = 1
    response = op(impulse, sos, backend="reference")[0][:, 0].float()
    if case.reverse:
        ways = {"FFT convolution": lambda: fft_filter(x.flip(0), response).flip(0)}
    else:
        ways = {"FFT convolution": lambda: fft_filter(x, response)}
    if device() == "cuda" and importlib.util.find_spec("cupyx") and not case.reverse:
        import cupy
        from cupyx.scipy.signal import sosfilt

        table, signal = cupy.asarray(sos), cupy.asarray(x)
        ways["CuPy sosfilt"] = lambda: torch.as_tensor(
            sosfilt(table, signal, axis=0), device=x.device
        )
    rows = [
        Row("ours", lambda: op(**inputs, backend=ours), error),
        Row("ours, graph", graph(lambda: op(**inputs, backend=ours)), error),
        Row("reference", lambda: op(**inputs, backend="reference"), 0.0, "float64"),
        *(Row(name, way, relative((way(),), want[:1])) for name, way in ways.items()),
    ]
    yield "forward", 1.0, rows


def ntf_rows(
    op: Callable[..., Any], cases: ModuleType, case: Any, peers: ModuleType | None
) -> Iterator[tuple[str, float, list[Row]]]:
    """Rows of ntf_sweep, beside matrix products of the stored tensor by cuBLAS."""
    inputs = cases.make(case, device())
    ours = "fused" if device() == "cuda" else "reference"
    want = op(**double(inputs), backend="reference")
    rows = []
    for precision in ("highest", "high"):
        note = "tf32" if precision == "high" else "float32"

        def call(p: str = precision) -> Any:
            torch.set_float32_matmul_precision(p)
            return op(**inputs, backend=ours)

        rows.append(Row("ours", call, relative((call(),), (want,)), note))
    from neuropipe_kernels import ntf_padded

    pairs = case.n_units * (case.n_units - 1) // 2
    if case.n_rows * pairs < 1 << 30:
        stored = inputs["data"]
        if case.form != "stored":
            from neuropipe_kernels.ntf_sweep.reference import affinity

            i, j = torch.triu_indices(case.n_units, case.n_units, 1, device=stored.device)
            stored = affinity(stored[:, i], stored[:, j], case.form)
        # peers get codes as floats, which they all fit
        offset = 128 if stored.dtype == torch.int8 else 0
        scale, factor = inputs["scale"], inputs["factor"]
        ways = {("float32", "highest"): torch.float32, ("float32", "high"): torch.float32,
                ("bfloat16", "highest"): torch.bfloat16}  # fmt: skip
        for (kind, precision), dtype in ways.items():
            x, f = ntf_padded(stored.to(dtype) + offset), factor.to(dtype)
            x = x if case.over == "pair" else x.T

            def product(x: Any = x, f: Any = f, p: str = precision) -> Any:
                torch.set_float32_matmul_precision(p)
                return x @ f

            error = relative((product() * scale,), (want,))
            note = "tf32" if precision == "high" else kind
            rows.append(Row("cuBLAS, stored", product, error, note))
    yield case.over, 1.0, rows
    torch.set_float32_matmul_precision("highest")


def bench(name: str, smoke: bool, peers: ModuleType | None, rates: dict[str, float]) -> list[dict]:
    """Run one op's cases; refuse to time a case whose own row is out of tolerance."""
    op = getattr(importlib.import_module("neuropipe_kernels"), name)
    cases = importlib.import_module(f"neuropipe_kernels.{name}.cases")
    make_rows = {
        "glm_ll": glm_rows,
        "ntf_sweep": ntf_rows,
        "poisson_lowrank_nll": lowrank_rows,
        "sos_scan": sos_rows,
        "vq_ema": vq_rows,
    }.get(name, chain_rows)
    versions = {
        "gpu": torch.cuda.get_device_name() if device() == "cuda" else "none",
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda or "none",
        "date": datetime.date.today().isoformat(),
    }
    lines = []
    for case in cases.SMOKE if smoke else cases.BENCH:
        shape = " ".join(f"{k[2:]} {v}" for k, v in case._asdict().items() if k.startswith("n_"))
        work = cases.work(case)
        for label, factor, rows in make_rows(op, cases, case, peers):
            red = [r for r in rows if r.name.startswith("ours") and not r.error <= case.tolerance]
            # One tf32 product is a choice of the caller and is judged by its own bound.
            red = [r for r in red if not (r.note == "tf32" and r.error <= 3e-3)]
            if red:
                print(f"{name} {shape} {label}: PARITY RED, err {red[0].error:.2e}; no times")
                continue
            # A product's gradient repeats its operations, not its bytes.
            floor = 1e3 * max(
                v * (1.0 if k == "bytes" else factor) / rates[k] for k, v in work.items()
            )
            for row in rows:
                ms = milliseconds(row.call)
                line = {
                    "op": name, "shape": shape, "pass": label, "row": row.name, "note": row.note,
                    "ms": f"{ms:.4f}", "floor_ms": f"{floor:.4f}", "ratio": f"{ms / floor:.2f}",
                    "err": f"{row.error:.1e}", **versions,
                }  # fmt: skip
                lines.append(line)
                print("\t".join(str(line[c]) for c in COLUMNS[:9]), flush=True)
            del rows
            if device() == "cuda":
                torch.cuda.empty_cache()
    return lines


def once(name: str, smoke: bool) -> None:
    """Call one op's own form on its cases, three times each, with gradients where it has them."""
    op = getattr(importlib.import_module("neuropipe_kernels"), name)
    cases = importlib.import_module(f"neuropipe_kernels.{name}.cases")
    for case in cases.SMOKE if smoke else cases.BENCH:
        inputs = cases.make(case, device())
        for _ in range(3):
            leaves = [inputs[n].detach().requires_grad_() for n in cases.GRADIENTS]
            out = op(**{**inputs, **dict(zip(cases.GRADIENTS, leaves, strict=True))})
            if leaves and isinstance(out, torch.Tensor):
                torch.autograd.grad(out.sum(), leaves)


def main() -> int:
    """Read the command line, run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--op", choices=[*OPS, "all"], default="all")
    parser.add_argument("--out", type=Path, help="folder for bench_<op>.tsv")
    parser.add_argument("--peers", type=Path, help="file with the peers' functions")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, any machine")
    parser.add_argument("--once", action="store_true", help="our own form alone, untimed")
    options = parser.parse_args()
    if device() == "cpu" and not options.smoke:
        print("no CUDA device: only --smoke runs here", file=sys.stderr)
        return 2
    peers = None
    if options.peers:
        spec = importlib.util.spec_from_file_location("peers", options.peers)
        peers = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(peers)
    rates = {} if options.once else ceilings(options.smoke)
    print("# ceilings:", ", ".join(f"{k} {v:.3e}/s" for k, v in rates.items()))
    for name in OPS if options.op == "all" else [options.op]:
        if options.once:
            once(name, options.smoke)
            continue
        lines = bench(name, options.smoke, peers, rates)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            with (options.out / f"bench_{name}.tsv").open("w", newline="") as stream:
                writer = csv.DictWriter(stream, COLUMNS, delimiter="\t")
                writer.writeheader()
                writer.writerows(lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
