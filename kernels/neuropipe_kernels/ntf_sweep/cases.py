"""Shapes, tolerances and inputs of ntf_sweep: one list for tests and benchmark."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from neuropipe_kernels.ntf_sweep.reference import OFFSET, padded

GRADIENTS = ()


class Case(NamedTuple):
    """One set of inputs.

    Attributes
    ----------
    name : str
    n_rows, n_units, n_columns : int
        A row is an animal at a time; affinities have a column for each of the units' pairs.
    form, over : str
    dtype : torch.dtype
        Of the data; factors are float64 beside float64 data, else float32.
    missing : bool
        Whether a third of the units and a fifth of the rows are missing.
    aligned : bool
        Whether rows of stored affinities begin at whole vectors of memory; of codes that are
        summed over rows, the turned rows.
    tolerance : float
        Relative error allowed to the fused form.
    """

    name: str
    n_rows: int
    n_units: int
    n_columns: int
    form: str = "geo"
    over: str = "pair"
    dtype: torch.dtype = torch.float32
    missing: bool = False
    aligned: bool = False
    tolerance: float = 2e-6


def both(name: str, *sizes: int, **more: Any) -> tuple[Case, Case]:
    """Return one case for each side of a sweep."""
    first = Case(name, *sizes, **more)
    return first, first._replace(over="row")


def codes(name: str, *sizes: int, **more: Any) -> tuple[Case, Case]:
    """Return `both` of affinities stored as codes."""
    return both(name, *sizes, form="stored", dtype=torch.int8, tolerance=2e-5, **more)


CASES = (
    *both("two units, one row", 1, 2, 1),
    *both("geo", 70, 19, 5),
    *both("prod, several tiles", 131, 67, 3, form="prod"),
    *both("min, missing", 45, 34, 7, form="min", missing=True),
    *both("minpos", 33, 21, 17, form="minpos"),
    *both("several column tiles", 40, 9, 70),
    *both("stored", 67, 19, 5, form="stored"),
    *both("stored bfloat16", 67, 19, 5, form="stored", dtype=torch.bfloat16, tolerance=2e-5),
    *codes("codes, missing", 150, 24, 5, missing=True),
    *codes("codes, one column", 35, 14, 1, aligned=True),
    *codes("codes, 33 columns", 70, 19, 33, aligned=True, missing=True),
    *codes("codes, several column tiles", 40, 9, 70, aligned=True),
    codes("codes, several parts of several blocks", 3, 150, 5, aligned=True)[0],
    codes("codes, several parts of several blocks", 9001, 3, 5)[1],
    *both("stored, aligned", 35, 14, 3, form="stored", aligned=True),
    *both("float64", 20, 7, 3, dtype=torch.float64, tolerance=1e-12),
)
PAPER = 960 * 21, 189, 16
BENCH = (
    *both("stored", *PAPER, form="stored", aligned=True),
    *both("bfloat16", *PAPER, form="stored", aligned=True, dtype=torch.bfloat16, tolerance=2e-5),
    *codes("codes", *PAPER, aligned=True),
    *both("geo", *PAPER),
    *both("min", *PAPER, form="min"),
    *both("thousand units", 2000 * 5, 1000, 16),
)
SMOKE = both("smoke", 100, 20, 4)


def make(case: Case, device: str | torch.device = "cpu", seed: int = 0) -> dict[str, Any]:
    """Draw the keyword arguments of one call; stored affinities are those of ``geo``."""
    g = torch.Generator(device=device).manual_seed(seed)
    real = torch.float64 if case.dtype == torch.float64 else torch.float32
    kind = {"generator": g, "device": device, "dtype": real}
    d = torch.randn(case.n_rows, case.n_units, **kind)
    if case.missing:
        d[:, ::3] = 0
        d[::5] = 0
    n_pairs = case.n_units * (case.n_units - 1) // 2
    scale = 1.0
    if case.form == "stored":
        i, j = torch.triu_indices(case.n_units, case.n_units, 1, device=device)
        d = d.sign() * d.abs().sqrt()
        d = (d[:, i] * d[:, j]).clamp_(min=0)
        if case.dtype == torch.int8:
            scale = 1 / 50
            d = (d / scale).round_().clamp_(max=255).sub_(OFFSET)
        # codes lie in line along what is summed
        turn = case.dtype == torch.int8 and case.over == "row"
        d = (d.T if turn else d).to(case.dtype)
        d = padded(d) if case.aligned else d.contiguous()
        d = d.T if turn else d
    size = n_pairs if case.over == "pair" else case.n_rows
    factor = torch.rand(size, case.n_columns, **kind)
    return {"data": d, "factor": factor, "over": case.over, "form": case.form, "scale": scale}


def errors(got: torch.Tensor, want: torch.Tensor, inputs: dict[str, Any]) -> dict[str, float]:
    """Relative error of the output; ``want`` may be of higher precision."""
    got, want = got.double(), want.double()
    return {"product": float((got - want).norm() / want.norm().clamp(min=1e-30))}


def work(case: Case) -> dict[str, float]:
    """Bytes that must move once, and operations of the product on the tensor cores."""
    n_pairs = case.n_units * (case.n_units - 1) // 2
    width = n_pairs if case.form == "stored" else case.n_units
    size = torch.empty(0, dtype=case.dtype).element_size()
    factors = 4.0 * case.n_columns * (n_pairs + case.n_rows)
    product = 2.0 * case.n_rows * n_pairs * case.n_columns
    return {"bytes": float(size) * case.n_rows * width + factors, "tf32": product}
