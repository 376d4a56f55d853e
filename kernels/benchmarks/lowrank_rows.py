"""Rows of poisson_lowrank_nll: forward alone and with all gradients, beside plain torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from timing import Row, device, double, graph, relative


def plain_nll(
    z: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    variance: torch.Tensor,
    counts: torch.Tensor,
    mask: torch.Tensor | None = None,
    reduction: str = "sum",
) -> torch.Tensor:
    """The term as one would write it, the best thing to hand to torch.compile."""
    eta = z @ weight.T + offset
    rate = torch.exp(eta + 0.5 * (variance @ (weight * weight).T))
    nll = (rate - counts * eta).sum(1)
    if mask is not None:
        nll = torch.where(mask, nll, 0.0)
    return nll.sum() if reduction == "sum" else nll


def lowrank_rows(
    op: Callable[..., Any], cases: ModuleType, case: Any, peers: ModuleType | None
) -> Iterator[tuple[str, float, list[Row]]]:
    """Rows of poisson_lowrank_nll, with every gradient asked for; the peers at two precisions."""
    inputs = cases.make(case, device())
    if case.masked:
        # the peers multiply what a masked bin holds by zero, so here it must be finite
        inputs = {k: v.nan_to_num() if k in ("z", "variance") else v for k, v in inputs.items()}
    shape = (case.n_bins,) if case.reduction == "none" else ()
    g = torch.rand(shape, device=device()) + 0.5
    ours = "fused" if device() == "cuda" else "reference"
    torch.compiler.reset()
    compiled = torch.compile(plain_nll, dynamic=False)
    forms: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
        "ours": (lambda **v: op(**v, backend=ours), ("highest",)),
        "reference": (lambda **v: op(**v, backend="reference"), ("highest",)),
        "plain": (plain_nll, ("highest",)),
        "plain, compiled": (compiled, ("highest", "high")),
    }

    def gradient(f: Callable[..., Any], values: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        leaves = [values[n].detach().requires_grad_() for n in cases.GRADIENTS]
        nll = f(**{**values, **dict(zip(cases.GRADIENTS, leaves, strict=True))})
        return nll.detach(), *torch.autograd.grad(nll, leaves, g.to(nll.dtype))

    def forward(f: Callable[..., Any], values: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return (f(**values),)

    # forward: two products; the gradient by both factors takes two more for each
    for label, run, factor in (("forward", forward, 1.0), ("forward+gradient", gradient, 3.0)):
        want = run(forms["reference"][0], double(inputs))
        rows = []
        for name, (form, precisions) in forms.items():
            for precision in precisions:

                def call(f: Any = form, p: str = precision, go: Any = run) -> Any:
                    torch.set_float32_matmul_precision(p)
                    return go(f, inputs)

                note = "tf32" if precision == "high" else "float32"
                error = relative(call(), want)
                rows.append(Row(name, call, error, note))
                if case.n_bins < 1 << 16:
                    rows.append(Row(f"{name}, graph", graph(call), error, note))
        del want
        yield label, factor, rows
        torch.set_float32_matmul_precision("highest")
