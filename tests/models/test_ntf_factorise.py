"""The factorisation behind the NTF connectome: a naive sweep, tensorly, missing entries."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from neuropipe_kernels import ntf_padded
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import nnls

from neuropipe.batching.derivatives import derivative
from neuropipe.metrics import congruence
from neuropipe.models.ntf_connectome import rank
from neuropipe.models.ntf_connectome.affinity import all_pairs, energy
from neuropipe.models.ntf_connectome.entries import Entries, of_tensor
from neuropipe.models.ntf_connectome.model import (
    activate,
    factorise,
    misfit,
    random_start,
    refit_patterns,
    sweep,
)

QUICK = {"communities": "none", "tolerance": 1e-5}
FORMS = ("geo", "prod", "min", "minpos")


def derivatives_of(seed: int, n_animals: int = 3, n_units: int = 7, n_times: int = 20, **more):
    """Entries of random derivatives; some animals lack neurons, one lacks times."""
    rng = np.random.default_rng(seed)
    present = np.ones((n_animals, n_units), bool)
    lengths = [n_times] * n_animals
    if more.get("missing"):
        present[1, :2] = present[2, 5] = False
        lengths[2] = n_times - 6
    time = np.concatenate([n_times - n + np.arange(n) for n in lengths])
    ends = np.cumsum([0, *lengths])
    kind = np.repeat(np.arange(n_animals), lengths)
    d = rng.standard_normal((ends[-1], n_units)) * present[kind]
    d = torch.as_tensor(d)
    form = more.get("form", "geo")
    return Entries(
        d, form, torch.as_tensor(time), n_times,
        tuple(slice(a, b) for a, b in pairwise(ends)), torch.as_tensor(kind),
        torch.as_tensor(present), energy(d, form),
    )  # fmt: skip


def dense(x: Entries) -> tuple[np.ndarray, np.ndarray]:
    """The tensor (time, animal, pair) and where it was observed."""
    i, j = x.units
    value = np.zeros((x.n_times, len(x.rows_of), x.n_pairs))
    seen = np.zeros(value.shape, bool)
    value[x.time, x.animal] = all_pairs(x.data, x.form)
    seen[x.time, x.animal] = (x.present[:, i] & x.present[:, j])[x.kind]
    return value, seen


def naive_update(value, seen, factors, mode, rounds):
    """One HALS update of one mode, entry by entry."""
    others = [factors[m] for m in range(3) if m != mode]
    full = np.einsum("ar,br->abr", *others)
    new = factors[mode].copy()
    x, m = np.moveaxis(value, mode, 0), np.moveaxis(seen, mode, 0)
    for n in range(len(new)):
        design = full[m[n]]
        for _ in range(rounds):
            for r in range(new.shape[1]):
                square = design[:, r] @ design[:, r]
                if square > 0:
                    gap = x[n][m[n]] - design @ new[n]
                    new[n, r] = max(1e-12, new[n, r] + gap @ design[:, r] / square)
    return new


def naive_sweep(value, seen, factors, rounds=3):
    factors = [f.copy() for f in factors]
    for mode in (0, 1, 2):
        factors[mode] = naive_update(value, seen, factors, mode, rounds)
    for mode in (1, 2):
        length = np.linalg.norm(factors[mode], axis=0)
        factors[mode] /= length
        factors[0] *= length
    lost = (value - np.einsum("tr,wr,pr->twp", *factors))[seen]
    return factors, np.sqrt((lost**2).sum() / (value[seen] ** 2).sum())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("missing", [False, True])
def test_a_sweep_equals_the_naive_one_stored_or_made_on_the_way(form, missing):
    x = derivatives_of(1, form=form, missing=missing)
    value, seen = dense(x)
    assert x.total == pytest.approx((value**2).sum())
    start = random_start(x, 3, 2, np.random.default_rng(0))
    for k in range(2):
        naive, error = naive_sweep(value, seen, [f[k].numpy() for f in start])
        for entries in (x, x.stored("stored")):
            got, of_pairs, e = sweep(entries, start, x.gram_of_pairs(start.pair), "hals", 3)
            for a, b in zip(got, naive, strict=True):
                np.testing.assert_allclose(a[k], b, rtol=1e-8, atol=1e-11)
            assert float(e[k]) == pytest.approx(error, rel=1e-9)
            torch.testing.assert_close(of_pairs, x.gram_of_pairs(got.pair))
            left = float(misfit(entries, got)[k])
            assert left == pytest.approx(error**2 * x.total, rel=1e-9)


def test_single_missing_entries_and_hidden_neurons_are_the_same_least_squares(monkeypatch):
    x = derivatives_of(2)
    hidden = rank.hide(x, 0.3, 4, np.random.default_rng(3))
    value, seen = dense(hidden)
    cells = of_tensor(torch.as_tensor(value), torch.as_tensor(seen))
    assert not seen.all()
    start = random_start(x, 3, 1, np.random.default_rng(0))
    naive, error = naive_sweep(value, seen, [f[0].numpy() for f in start])
    grouped = sweep(hidden, start, hidden.gram_of_pairs(start.pair), "hals", 3)
    monkeypatch.setattr("neuropipe.models.ntf_connectome.entries.FEW", 0)
    again = rank.hide(x, 0.3, 4, np.random.default_rng(3))
    for got in (
        grouped,
        sweep(again, start, again.gram_of_pairs(start.pair), "hals", 3),
        sweep(cells, start, cells.gram_of_pairs(start.pair), "hals", 3),
    ):
        for a, b in zip(got[0], naive, strict=True):
            np.testing.assert_allclose(a[0], b, rtol=1e-8, atol=1e-11)
        assert float(got[2]) == pytest.approx(error, rel=1e-9)
    full, _ = dense(x)
    made = np.einsum("tr,wr,pr->twp", *naive)
    lost = ((full - made)[~seen] ** 2).sum() / (full[~seen] ** 2).sum()
    got = rank.explained_hidden(x, hidden, grouped[0])
    assert got == pytest.approx(1 - lost, rel=1e-6)


def exact(seed: int, shape=(20, 25, 30), n: int = 4) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    factors = [rng.random((k, n)) for k in shape]
    return np.einsum("tr,wr,pr->twp", *factors), factors


def test_tensorly_from_the_same_start_agrees_to_rounding():
    tensorly = pytest.importorskip("tensorly", reason="tensorly is not installed")
    from tensorly.decomposition import non_negative_parafac_hals

    value, _ = exact(0)
    x = of_tensor(torch.as_tensor(value))
    start = random_start(x, 4, 1, np.random.default_rng(5))
    begin = tensorly.cp_tensor.CPTensor((np.ones(4), [f[0].numpy().copy() for f in start]))
    # tensorly's own count of inner rounds is 5
    (_, theirs), errors = non_negative_parafac_hals(
        value, 4, n_iter_max=25, init=begin, tol=1e-30, return_errors=True
    )
    ours = factorise(x, start, rounds=5, max_sweeps=len(errors), tolerance=0)
    np.testing.assert_allclose(ours.error[:, 0], np.array(errors, float), rtol=1e-6)
    for a, b in zip(ours.factors, theirs, strict=True):
        a, b = a[0].numpy(), np.asarray(b)
        np.testing.assert_allclose(
            a / np.linalg.norm(a, axis=0), b / np.linalg.norm(b, axis=0), atol=1e-8
        )


def test_exact_tensors_are_recovered_from_every_start():
    value, factors = exact(0)
    x = of_tensor(torch.as_tensor(value))
    start = random_start(x, 4, 10, np.random.default_rng(1))
    done = factorise(x, start, max_sweeps=800, tolerance=1e-9)
    assert bool(done.converged.all())
    assert float(done.error[-1].max()) < 1e-6
    for k in range(10):
        alike, _ = congruence(factors, [f[k].numpy() for f in done.factors])
        assert alike.mean() > 0.999


@pytest.mark.parametrize(
    ("share", "fibres"), [(0.1, False), (0.2, False), (0.4, False), (0.3, True)]
)
def test_missing_entries_are_not_zeros(share, fibres):
    value, factors = exact(3)
    rng = np.random.default_rng(4)
    value = np.maximum(value * (1 + 0.1 * rng.standard_normal(value.shape)), 0)
    shape = (1, *value.shape[1:]) if fibres else value.shape
    seen = np.broadcast_to(rng.random(shape) >= share, value.shape).copy()
    scores = {}
    for name, mask in (("masked", torch.as_tensor(seen)), ("zeros", None)):
        x = of_tensor(torch.as_tensor(value * seen), mask)
        done = factorise(
            x, random_start(x, 4, 2, np.random.default_rng(5)), tolerance=1e-5, max_sweeps=60
        )
        best = [f[done.best].numpy() for f in done.factors]
        scores[name] = congruence(factors, best)[0].mean()
    assert scores["masked"] >= 0.99
    assert scores["masked"] > scores["zeros"]


def test_multiplicative_updates_never_raise_the_error():
    x = derivatives_of(4, missing=True)
    start = random_start(x, 3, 2, np.random.default_rng(0))
    done = factorise(x, start, rule="mu", max_sweeps=40, tolerance=0)
    assert float(done.error.diff(dim=0).max()) < 1e-12
    hals = factorise(x, start, max_sweeps=40, tolerance=0)
    assert float(hals.error.diff(dim=0).max()) < 1e-12
    assert float(hals.error[-1].min()) <= float(done.error[-1].min()) + 1e-6


def test_refitted_activations_are_the_non_negative_least_squares():
    x = derivatives_of(5, missing=True)
    start = random_start(x, 3, 1, np.random.default_rng(0))
    time, lost = activate(x, start.pair[0], start.animal[0])
    value, seen = dense(x)
    total = 0.0
    for t in range(x.n_times):
        design = np.einsum("wr,pr->wpr", start.animal[0], start.pair[0])[seen[t]]
        want, left = nnls(design, value[t][seen[t]])
        np.testing.assert_allclose(time[t], want, atol=1e-5)
        total += left**2
    assert lost == pytest.approx(total, rel=1e-6)


def test_derivative_is_of_the_scaled_trace_and_codes_are_near():
    trace = np.random.default_rng(0).random((50, 3))
    ends = np.array([[0.0, 0.1, 0.2], [1.0, 0.9, 1.2]])
    want = gaussian_filter1d((trace - ends[0]) / (ends[1] - ends[0]), 2.0, axis=0, order=1)
    np.testing.assert_allclose(derivative(trace, ends, 2.0), want)
    x = derivatives_of(6)
    codes = x.stored("codes")
    assert codes.data.dtype == torch.int8
    assert codes.total == pytest.approx(x.total, rel=0.01)
    start = random_start(x, 3, 2, np.random.default_rng(0))
    row = x.rows(start.time, start.animal)
    for got, want in (
        (codes.over_pairs(start.pair), x.over_pairs(start.pair)),
        (codes.over_rows(row), x.over_rows(row)),
    ):
        assert float((got - want).norm() / want.norm()) < 5e-3


def test_sums_over_rows_read_the_turned_codes_of_the_same_rows():
    codes = derivatives_of(6, missing=True).stored("codes")
    both = replace(codes, turned=ntf_padded(codes.data.T).T)
    keep = torch.as_tensor(np.random.default_rng(1).random(len(codes.time)) < 0.6)
    row = torch.rand(2, int(keep.sum()), 3, generator=torch.Generator().manual_seed(0))
    part = both.only(keep)
    assert torch.equal(part.turned, codes.data[keep])
    assert part.turned.stride(0) == 1
    assert part.data.stride() == codes.data.stride()
    torch.testing.assert_close(part.over_rows(row), codes.only(keep).over_rows(row))
    other = replace(part, turned=torch.full_like(part.turned, -128))
    assert not other.over_rows(row).any()


def test_restarts_stop_on_their_own_and_a_fit_goes_on_where_it_stopped():
    x = derivatives_of(7)
    start = random_start(x, 2, 3, np.random.default_rng(0))
    states = []
    whole = factorise(x, start, tolerance=1e-4, keep=states.append)
    assert len({int((whole.error[:, k].diff() < 0).sum()) for k in range(3)}) > 1
    alone = factorise(x, start.of([1]), tolerance=1e-4)
    n = len(alone.error)
    np.testing.assert_allclose(whole.error[:n, 1], alone.error[:, 0], rtol=1e-12)
    again = factorise(x, start, tolerance=1e-4, resume=states[4])
    assert torch.equal(again.error, whole.error)
    assert all(torch.equal(a, b) for a, b in zip(again.factors, whole.factors, strict=True))


def test_patterns_of_some_rows_are_their_least_squares():
    x = derivatives_of(4, missing=True)
    keep = torch.as_tensor(np.random.default_rng(1).random(len(x.time)) < 0.6)
    part = x.only(keep)
    value, seen = dense(part)
    _, was_seen = dense(x)
    time, animal, pair = (f[0].double() for f in random_start(x, 3, 1, np.random.default_rng(2)))
    got = refit_patterns(part, time, animal, pair).numpy()
    design = np.einsum("tr,wr->twr", time.numpy(), animal.numpy())
    kept = np.zeros(seen.shape[:2], bool)
    kept[x.time[keep], x.animal[keep]] = True
    np.testing.assert_array_equal(seen, was_seen & kept[:, :, None])
    for p in range(x.n_pairs):
        want = nnls(design[seen[..., p]], value[seen[..., p], p])[0]
        np.testing.assert_allclose(got[p], want, atol=1e-5)
