"""One pass of a non-negative factorisation over affinities of pairs, stored or made on the way."""

from __future__ import annotations

import torch

from neuropipe_kernels.dispatch import use_fused
from neuropipe_kernels.ntf_sweep.reference import contract, padded, update

ntf_padded = padded

REAL = (torch.float32, torch.float64)
STORED = (*REAL, torch.bfloat16, torch.int8)
FORMS = ("stored", "prod", "geo", "min", "minpos")
OVER = ("pair", "row")
RULES = ("hals", "mu")


def ntf_sweep(
    data: torch.Tensor,
    factor: torch.Tensor,
    *,
    over: str,
    form: str = "stored",
    scale: float = 1.0,
    backend: str = "auto",
) -> torch.Tensor:
    """Contract the affinities X (row, pair) with a factor over pairs or over rows.

    A row is one animal at one time. Two calls make a sweep: over pairs, whose result serves the
    time and the animal mode, and over rows, with the product of both, for the pair mode.

    Parameters
    ----------
    data : (row, pair) or (row, unit)
        ``stored``: the affinities, float32, float64, bfloat16, or codes from 0 to 255, of which
        one step is ``scale``, as int8 with 128 subtracted: an affinity is ``scale`` times (entry
        + 128), and zero is -128. Other forms: the derivative d of each unit's trace, float32 or
        float64, finite; zero where a unit or a time is missing, which makes all its affinities
        zero.
    factor : (pair, column) or (row, column)
        ``over='pair'`` or ``over='row'``; float32 or float64. Columns may stack components of
        several restarts.
    over : str
        The axis that is summed, ``pair`` or ``row``.
    form : str
        ``stored``, or the affinity of units i < j: ``prod`` [d_i d_j]+, ``geo``
        sqrt([d_i d_j]+), ``min`` min(|d_i|, |d_j|) where the signs agree, ``minpos``
        [min(d_i, d_j)]+. Pairs are numbered (0, 1), (0, 2) ... as by ``torch.triu_indices``.
    scale : float
        Multiplies the result.
    backend : str
        ``auto``, ``reference`` or ``fused``; see ``dispatch.use_fused``.

    Returns
    -------
    (row, column) or (pair, column)
        ``sum_p X[row, p] factor[p]`` or ``sum_row X[row, p] factor[row]``, dtype of ``factor``.

    Raises
    ------
    ValueError
        On wrong shapes, dtypes or names, or when an input requires a gradient.

    Notes
    -----
    Memory beyond inputs and result is bounded; X is never made whole. CPU: blocks of rows.
    CUDA: affinities are made inside the tile of a matrix product with float32 accumulators;
    sums over programs are taken in a fixed order, so a call gives the same bits again. There,
    as for glm_ll, ``torch.get_float32_matmul_precision()`` ``highest`` keeps float32 accuracy,
    anything else is one tf32 product; bfloat16 is multiplied with the factor as a sum of two
    bfloat16, errors about 5e-6. Stored rows load fastest where they begin at whole vectors of
    memory (`ntf_padded`). Float64 takes the reference. There is no gradient.

    Codes on CUDA are multiplied as whole numbers, with the factor rounded to 1/32,512 of the
    largest size in its column; the sum itself is exact. The summed axis must be contiguous: over
    rows codes come in memory of pairs, ``ntf_padded(data.T).T``, so whoever needs both sides keeps
    them twice. Otherwise the reference decodes them, block by block, which is slow.

    Source: matricised product of Bader & Kolda (2007) with the dimension tree of Phan et al.
    (2013), over the affinities of Dyballa et al. (ICLR 2024).
    """
    _check(data, factor, over, form)
    run = contract
    with torch.no_grad():
        if use_fused(data, backend):
            from neuropipe_kernels.ntf_sweep.fused import contract as fused
            from neuropipe_kernels.ntf_sweep.fused import serves

            run = fused if serves(data, factor, over) else run
        return run(data, factor, over, form, scale)


def ntf_update(
    product: torch.Tensor,
    current: torch.Tensor,
    gram: torch.Tensor,
    group: torch.Tensor | None = None,
    *,
    rule: str = "hals",
    rounds: int = 3,
    floor: float = 1e-12,
    backend: str = "auto",
) -> torch.Tensor:
    """Improve one factor, given the contraction of X with the others and their Gram matrices.

    Parameters
    ----------
    product : (start, row, component)
        What `ntf_sweep` returned, starts apart; a row is an entry of the mode at hand.
    current : (start, row, component)
        The factor, non-negative; left as it is.
    gram : (start, group, component, component)
        Gram matrix of the other factors over the entries that were observed.
    group : (row,) int64 or None
        Which Gram matrix each row has; None where all share the one there is.
    rule : str
        ``hals``: each component in turn to its non-negative optimum. ``mu``: multiplicative.
    rounds : int
        How often, with the same product.
    floor : float
        Smallest value; a component at exactly zero could not return.
    backend : str
        ``auto``, ``reference`` or ``fused``; see ``dispatch.use_fused``.

    Returns
    -------
    (start, row, component)
        Rows without any observation, whose Gram matrix is zero, stay as they are.

    Raises
    ------
    ValueError
        On wrong shapes or names.

    Notes
    -----
    CPU: plain torch. CUDA: float32 in one launch for all rounds, the row in registers.

    Source: Cichocki & Phan (2009), HALS; Lee & Seung (2001), multiplicative.
    """
    n_starts, n_rows, rank = current.shape
    if product.shape != current.shape or gram.shape != (n_starts, gram.shape[1], rank, rank):
        raise ValueError(
            f"ntf_update: product {tuple(product.shape)}, current {tuple(current.shape)} and gram "
            f"{tuple(gram.shape)} do not fit; expected (start, row, component) twice and (start, "
            "group, component, component)"
        )
    if rule not in RULES or rounds < 1:
        raise ValueError(
            f"ntf_update: rule {rule!r} with {rounds} rounds; expected hals or mu, rounds from 1"
        )
    if (group is None and gram.shape[1] != 1) or (group is not None and len(group) != n_rows):
        raise ValueError(
            f"ntf_update: {gram.shape[1]} Gram matrices need group of shape ({n_rows},), one "
            "number a row"
        )
    run = update
    with torch.no_grad():
        if use_fused(current, backend) and current.dtype == torch.float32:
            from neuropipe_kernels.ntf_sweep.fused import update as fused

            run = fused
        return run(product, current, gram, group, rule, rounds, floor)


def _check(data: torch.Tensor, factor: torch.Tensor, over: str, form: str) -> None:
    """Check one call."""
    if over not in OVER or form not in FORMS:
        raise ValueError(
            f"ntf_sweep: over {over!r} and form {form!r}; expected over pair or row, form one of "
            f"{', '.join(FORMS)}"
        )
    known = STORED if form == "stored" else REAL
    if data.ndim != 2 or data.dtype not in known or 0 in data.shape:
        raise ValueError(
            f"ntf_sweep: data is {data.dtype} of shape {tuple(data.shape)}, expected "
            f"{' or '.join(str(d).removeprefix('torch.') for d in known)} of shape "
            f"{'(row, pair)' if form == 'stored' else '(row, unit)'}"
        )
    n_rows, width = data.shape
    n_pairs = width if form == "stored" else width * (width - 1) // 2
    expected = n_pairs if over == "pair" else n_rows
    if factor.ndim != 2 or factor.shape[0] != expected or factor.dtype not in REAL:
        raise ValueError(
            f"ntf_sweep: factor is {factor.dtype} of shape {tuple(factor.shape)}, expected float32 "
            f"or float64 of shape ({expected}, column) to be summed over {over}s of data "
            f"{tuple(data.shape)} of form {form}"
        )
    if form != "stored" and data.dtype != factor.dtype:
        raise ValueError(
            f"ntf_sweep: data is {data.dtype} and factor {factor.dtype}; convert one with .to()"
        )
    for name, tensor in (("data", data), ("factor", factor)):
        if tensor.requires_grad:
            raise ValueError(
                f"ntf_sweep: {name} requires a gradient, which this op does not have; "
                f"pass {name}.detach()"
            )
