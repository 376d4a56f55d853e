"""Rows of vq_ema: the search with sums by code, beside scores of all codes by cuBLAS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from timing import Row, device, double, graph

WAYS = (
    ("float32", "highest", None),
    ("tf32", "high", None),
    ("bfloat16", "highest", torch.bfloat16),
)


def all_scores(
    x: torch.Tensor, code: torch.Tensor, dtype: torch.dtype | None, onehot: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Search and sum as a few calls of torch; indices are those of the given precision."""
    unit = torch.nn.functional.normalize(x, dim=-1)
    score = unit @ code.T if dtype is None else unit.to(dtype) @ code.to(dtype).T
    index = score.argmax(-1)
    if onehot:
        hot = torch.nn.functional.one_hot(index, len(code)).to(unit.dtype)
        return index, hot.sum(0), hot.T @ unit
    count = torch.zeros(len(code), device=x.device).index_add_(0, index, torch.ones_like(x[:, 0]))
    return index, count, torch.zeros_like(code).index_add_(0, index, unit)


def vq_rows(
    op: Callable[..., Any], cases: ModuleType, case: Any, peers: ModuleType | None
) -> Iterator[tuple[str, float, list[Row]]]:
    """Rows of vq_ema: ours, the reference, and torch in three precisions, eager and compiled.

    The error of a row that is not ours is the cosine that its choices lose at most.
    """
    inputs = cases.make(case, device())
    x, code = inputs["x"], inputs["code"]
    ours = "fused" if device() == "cuda" else "reference"
    want = op(**double(inputs), backend="reference")
    error = max(cases.errors(op(**inputs, backend=ours), want, inputs).values())
    rows = [
        Row("ours", lambda: op(**inputs, backend=ours), error),
        Row("ours, graph", graph(lambda: op(**inputs, backend=ours)), error),
        Row("reference", lambda: op(**inputs, backend="reference"), 0.0, "float64"),
    ]
    unit = torch.nn.functional.normalize(x[:4096].double(), dim=-1)
    score = unit @ code.double().T

    def lost(index: torch.Tensor) -> float:
        own = score.gather(1, index[: len(score), None])[:, 0]
        return float((score.amax(1) - own).max())

    for note, precision, dtype in WAYS:
        torch.compiler.reset()
        compiled = torch.compile(all_scores, dynamic=False)

        def call(form: Any, p: str = precision, d: torch.dtype | None = dtype, **more: Any) -> Any:
            torch.set_float32_matmul_precision(p)
            return form(x, code, d, **more)

        forms = {
            "scores and index_add": lambda c=call: c(all_scores),
            "scores and index_add, compiled": lambda c=call, f=compiled: c(f),
        }
        if note == "float32":
            forms["scores and one-hot product"] = lambda c=call: c(all_scores, onehot=True)
        for name, form in forms.items():
            rows.append(Row(name, form, lost(form()[0]), note))
            if case.n_tokens < 1 << 16:
                rows.append(Row(f"{name}, graph", graph(form), lost(form()[0]), note))
    torch.set_float32_matmul_precision("highest")
    yield "forward", 1.0, rows
