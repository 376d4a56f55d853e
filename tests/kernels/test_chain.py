"""Forward-backward and Viterbi against enumeration, plain loops and hard inputs."""

from __future__ import annotations

import itertools

import pytest
import torch
from neuropipe_kernels import hmm_fb, viterbi
from neuropipe_kernels.hmm_fb.logspace import forward_backward_log
from neuropipe_kernels.hmm_fb.reference import forward_backward

F64 = torch.float64


def chain(
    n_sequences: int, n_bins: int, n_states: int, seed: int, spread: float = 2.0, stay: float = 0.9
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw log likelihoods, a sticky transition matrix and an initial distribution."""
    g = torch.Generator().manual_seed(seed)
    ll = spread * torch.randn(n_sequences, n_bins, n_states, generator=g, dtype=F64)
    off = torch.softmax(torch.randn(n_states, n_states, generator=g, dtype=F64), -1)
    P = stay * torch.eye(n_states, dtype=F64) + (1 - stay) * off
    return ll, P, torch.softmax(torch.randn(n_states, generator=g, dtype=F64), -1)


def loop(
    ll: torch.Tensor, P: torch.Tensor, pi: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-space forward-backward of one sequence, one bin at a time."""
    n_bins = ll.shape[0]
    log_P = P.log()
    A, B = torch.zeros_like(ll), torch.zeros_like(ll)
    A[0] = pi.log() + ll[0]
    for t in range(1, n_bins):
        A[t] = torch.logsumexp(A[t - 1][:, None] + log_P, 0) + ll[t]
    for t in range(n_bins - 2, -1, -1):
        B[t] = torch.logsumexp(log_P + (ll[t + 1] + B[t + 1]), 1)
    evidence = torch.logsumexp(A[-1], 0)
    pair = A[:-1, :, None] + log_P + (ll[1:] + B[1:])[:, None] - evidence
    return evidence, (A + B - evidence).exp(), pair.exp().sum(0)


def test_enumeration_of_all_paths() -> None:
    n_bins, n_states = 6, 3
    ll, P, pi = chain(1, n_bins, n_states, seed=0)
    paths = torch.tensor(list(itertools.product(range(n_states), repeat=n_bins)))
    score = pi.log()[paths[:, 0]] + P.log()[paths[:, :-1], paths[:, 1:]].sum(1)
    score = score + ll[0].gather(1, paths.T).sum(0)
    evidence = torch.logsumexp(score, 0)
    weight = (score - evidence).exp()
    got = hmm_fb(ll, P, pi)
    one_hot = torch.nn.functional.one_hot(paths, n_states).to(F64)
    assert abs(float(got.log_evidence[0] - evidence)) < 1e-10
    state = (weight[:, None, None] * one_hot).sum(0)
    torch.testing.assert_close(got.state_probability[0], state, rtol=0, atol=1e-10)
    moves = torch.einsum("p,pti,ptj->ij", weight, one_hot[:, :-1], one_hot[:, 1:])
    torch.testing.assert_close(got.transition_count[0], moves, rtol=0, atol=1e-10)
    best = viterbi(ll, P, pi)
    assert torch.equal(best.state[0], paths[score.argmax()])
    assert abs(float(best.log_score[0] - score.max())) < 1e-10


@pytest.mark.parametrize(("n_bins", "n_states"), [(2, 2), (63, 5), (500, 3)])
def test_plain_loop(n_bins: int, n_states: int) -> None:
    ll, P, pi = chain(2, n_bins, n_states, seed=1)
    got = hmm_fb(ll, P, pi)
    for b in range(2):
        evidence, state, count = loop(ll[b], P, pi)
        assert abs(float(got.log_evidence[b] - evidence)) < 1e-9
        torch.testing.assert_close(got.state_probability[b], state, rtol=0, atol=1e-10)
        torch.testing.assert_close(got.transition_count[b], count, rtol=0, atol=1e-8)


def test_long_recording_of_many_neurons() -> None:
    """T = 20000 with 200 neurons: bins differ by hundreds of nats, evidence is about 1e6."""
    n_bins, n_neurons, n_states = 20000, 200, 5
    g = torch.Generator().manual_seed(2)
    _, P, pi = chain(1, 1, n_states, seed=2, stay=0.98)
    rate = 0.05 + torch.rand(n_states, n_neurons, generator=g, dtype=F64)
    state = torch.randint(0, n_states, (n_bins // 50,), generator=g).repeat_interleave(50)
    y = torch.poisson(rate[state], generator=g)
    ll = y @ rate.log().T - rate.sum(1) - torch.lgamma(y + 1).sum(1, keepdim=True)
    got = hmm_fb(ll[None].float(), P.float(), pi.float())
    evidence, want, _ = loop(ll, P, pi)
    assert abs(float(got.log_evidence[0] / evidence) - 1) < 1e-5
    torch.testing.assert_close(got.state_probability[0].double(), want, rtol=0, atol=1e-5)


def test_counts_agree_with_posteriors() -> None:
    ll, P, pi = chain(3, 40, 4, seed=3)
    lengths = torch.tensor([40, 17, 1])
    got = hmm_fb(ll, P, pi, lengths)
    torch.testing.assert_close(got.transition_count.sum((1, 2)), (lengths - 1).to(F64))
    for b, n in enumerate(lengths.tolist()):
        rows = got.state_probability[b, : n - 1].sum(0)
        torch.testing.assert_close(got.transition_count[b].sum(1), rows)
        assert not got.state_probability[b, n:].any()


@pytest.mark.parametrize("gap", [100.0, 700.0, 3000.0])
def test_far_apart_likelihoods_do_not_collapse(gap: float) -> None:
    """Blocks of one state each, any number of nats apart, are all recovered."""
    n_states = 3
    state = torch.arange(n_states).repeat_interleave(20).repeat(4)
    ll = -gap * (1 - torch.nn.functional.one_hot(state, n_states).to(F64))
    P = torch.full((n_states, n_states), 0.01, dtype=F64) + 0.97 * torch.eye(n_states, dtype=F64)
    pi = torch.full((n_states,), 1 / 3, dtype=F64)
    got = hmm_fb(ll[None], P, pi)
    assert torch.equal(got.state_probability[0].argmax(-1), state)
    assert float(got.state_probability[0].amax(-1).min()) > 0.99
    assert torch.equal(viterbi(ll[None], P, pi).state[0], state)


def test_zero_transitions_are_exact() -> None:
    """A left-to-right chain whose evidence turns late: no rescaled recursion survives it."""
    ll = torch.zeros(1, 300, 3, dtype=F64)
    ll[0, :150, 0] = -20.0
    ll[0, 150:, 1] = -40.0
    ll[0, 10, 2] = float("-inf")
    P = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=F64)
    pi = torch.tensor([0.4, 0.3, 0.3], dtype=F64)
    got = hmm_fb(ll, P, pi)
    evidence, state, _ = loop(ll[0], P, pi)
    assert abs(float(got.log_evidence[0] - evidence)) < 1e-8
    torch.testing.assert_close(got.state_probability[0], state, rtol=0, atol=1e-10)


def test_scaled_and_log_forms_agree() -> None:
    ll, P, pi = chain(3, 50, 4, seed=4)
    ll[0, 5, :2] = float("-inf")
    lengths = torch.tensor([50, 9, 1])
    for a, b in zip(
        forward_backward(ll, P, pi, lengths),
        forward_backward_log(ll, P, pi, lengths),
        strict=True,
    ):
        scale = b.sum(-1, keepdim=True) if a.shape == (3, 4) else 1.0
        same = a / a.sum(-1, keepdim=True) if a.shape == (3, 4) else a
        torch.testing.assert_close(same, b / scale, rtol=1e-9, atol=1e-10)


def test_missing_bins_only_mix() -> None:
    ll, P, pi = chain(1, 30, 3, seed=5)
    ll[0, 10:] = 0
    got = hmm_fb(ll, P, pi)
    short = hmm_fb(ll[:, :10], P, pi)
    torch.testing.assert_close(got.log_evidence, short.log_evidence)
    after = short.state_probability[0, -1] @ torch.linalg.matrix_power(P, 20)
    torch.testing.assert_close(got.state_probability[0, -1], after)


def test_padding_and_own_tables_change_nothing() -> None:
    ll, P, pi = chain(3, 60, 3, seed=6)
    lengths = torch.tensor([60, 31, 2])
    padded = ll.clone()
    for b, n in enumerate(lengths.tolist()):
        padded[b, n:] = float("nan")
    own = hmm_fb(padded, P.expand(3, 3, 3), pi.expand(3, 3), lengths)
    path = viterbi(padded, P.expand(3, 3, 3), pi.expand(3, 3), lengths)
    for b, n in enumerate(lengths.tolist()):
        alone = hmm_fb(ll[b : b + 1, :n], P, pi)
        torch.testing.assert_close(own.log_evidence[b : b + 1], alone.log_evidence)
        torch.testing.assert_close(own.state_probability[b, :n], alone.state_probability[0])
        torch.testing.assert_close(own.transition_count[b], alone.transition_count[0])
        assert torch.equal(path.state[b, :n], viterbi(ll[b : b + 1, :n], P, pi).state[0])
        assert bool((path.state[b, n:] == -1).all())


@pytest.mark.parametrize("own", [False, True])
def test_gradcheck(own: bool) -> None:
    ll, P, pi = chain(2, 7, 3, seed=7)
    if own:
        P, pi = P.expand(2, 3, 3).clone(), pi.expand(2, 3).clone()
    inputs = [x.requires_grad_() for x in (ll, P, pi)]
    lengths = torch.tensor([7, 4])
    assert torch.autograd.gradcheck(lambda *x: hmm_fb(*x, lengths).log_evidence, inputs)


def test_ties_take_the_lowest_index() -> None:
    P = torch.full((3, 3), 1 / 3, dtype=F64)
    path = viterbi(torch.zeros(2, 50, 3, dtype=F64), P, P[0])
    assert not path.state.any()


def good() -> dict[str, torch.Tensor]:
    return {
        "log_likelihood": torch.zeros(2, 5, 3),
        "transition": torch.full((3, 3), 1 / 3),
        "initial": torch.full((3,), 1 / 3),
    }


@pytest.mark.parametrize("op", [hmm_fb, viterbi])
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"log_likelihood": torch.zeros(5, 3)}, r"expected \(sequence, time, state\)"),
        ({"log_likelihood": torch.zeros(2, 0, 3)}, "without empty axes"),
        ({"log_likelihood": torch.zeros(2, 5, 3, dtype=torch.int64)}, "float32 or float64"),
        ({"transition": torch.full((3, 2), 0.5)}, r"shape \(3, 2\), expected \(3, 3\)"),
        ({"transition": torch.full((3, 3), 0.5)}, "normalise it first"),
        ({"transition": torch.full((3, 3), 1 / 3, dtype=F64)}, "convert it with"),
        ({"initial": torch.tensor([-1.0, 1.0, 1.0])}, "must hold probabilities"),
        ({"lengths": torch.tensor([5, 0])}, "expected 1 to 5"),
        ({"lengths": torch.tensor([5.0, 5.0])}, "integers, one a sequence"),
        ({"log_likelihood": torch.full((2, 5, 3), float("-inf"))}, "sequence 0 has score"),
        ({"log_likelihood": torch.full((2, 5, 3), float("nan"))}, "neither NaN"),
    ],
)
def test_errors_name_the_mend(op: object, change: dict[str, torch.Tensor], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        op(**{**good(), **change})


def test_impossible_sequence_is_refused() -> None:
    ll = torch.zeros(1, 4, 2)
    ll[0, 2] = float("-inf")
    P = torch.full((2, 2), 0.5)
    for op in (hmm_fb, viterbi):
        with pytest.raises(ValueError, match="sequence 0"):
            op(ll, P, P[0])
