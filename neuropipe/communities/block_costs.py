r"""What a weighted block model costs in nats, term by term: the formulae of the room.

Legend (Peixoto's letters): n nodes, E edges, b partition into B blocks, n_r nodes of block r,
e_rs edges between blocks (e_rr edges within r, each counted once), e_r sum of the degrees of r,
k_i degree of node i, x_rs sum of the weights of the e_rs edges, P block pairs with an edge.

Description length = -ln P(x | A, b) - ln P(A | k, e, b) - ln P(k | e, b) - ln P(e) - ln P(b).

- Partition: ln C(n-1, B-1) + ln n! - sum_r ln n_r! + ln n
  (Peixoto 2017, PRE 95 012317, Sec. II, "partition").
- Edge counts, flat: ln C(B(B+1)/2 + E - 1, E), the uniform choice of the same paper. Nested: the
  counts are themselves edges of a multigraph of blocks, whose blocks cost
  sum_{r<=s} ln C(n_rs + e_rs - 1, e_rs), n_rs = n_r n_s, n_rr = n_r (n_r + 1) / 2, level by level
  (Peixoto 2014, PRX 4 011047, Sec. II).
- Edges, not degree corrected: sum_{r<=s} ln C(n_rs, e_rs) with n_rr = n_r (n_r - 1) / 2, the
  count of *simple* graphs (2014). graph-tool uses a Poisson multigraph by default, which is its
  limit for sparse graphs; factors of an NTF are dense, so we count exactly. It is the value of
  graph-tool's ``entropy(dense=True, multigraph=False)``.
- Edges, degree corrected: the line above, and for each block sum_i ln C(n - 1, k_i)
  - ln C(n_r (n - 1), e_r): how far the degrees are from those of the block model without them.
  For one block it is the asymptotic count of simple graphs with given degrees, dense or sparse,
  of McKay & Wormald 1990 (Eur. J. Comb. 11 565) but for a factor near 1; for sparse graphs it
  goes over into the multigraph of the 2017 paper. An exact count has no closed form. graph-tool
  counts the multigraph, which overpays by hundreds of nats on dense graphs and so cannot be
  compared with its own model without degrees; here both can.
- Degrees: sum_r [ln q(e_r, n_r) + ln n_r! - sum_k ln eta_k^r!], eta_k^r nodes of degree k in r and
  q(m, n) the partitions of m into at most n parts: the "distributed" prior of the 2017 paper.
- Weights, exponential: given its sum, the weights of a pair of blocks are uniform on their
  simplex, sum_{rs} [(e_rs - 1) ln x_rs - ln (e_rs - 1)!], and so are the sums given the total,
  (P - 1) ln x - ln (P - 1)!: the microcanonical form of Peixoto 2018, PRE 97 012306, as in
  graph-tool's ``real-exponential``. It equals the gamma-conjugate marginal in the limit of
  a 1/rate prior, made proper by the second line; it has no free hyper-parameter. Nested: the sums
  are exponential weights of the multigraph of blocks.
- Weights, gamma (ours, not in the papers or graph-tool): a symmetric Dirichlet of one shape a in
  place of the uniform one, sum_{rs} [(a e_rs - 1) ln x_rs - ln Gamma(a e_rs) + e_rs ln Gamma(a)]
  - (a - 1) sum ln w, the same prior of the sums, and ln(number of shapes) for the best a of a
  fixed grid. a = 1 is the exponential.
- Weights, normal: the normal-inverse-gamma marginal of 2018, with mean of the prior = mean of all
  weights, one pseudo-count for mean and two for the variance, scale = their variance (graph-tool:
  a microcanonical form; not the same numbers).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import gammaln, spence

SHAPES = 2.0 ** np.arange(-3, 10.5, 0.5)
_LARGEST_TABLE = 10_000_000
LogQ = Callable[[np.ndarray, np.ndarray], np.ndarray]


def log_binomial(n: float, k: float) -> float:
    """Return ln C(n, k)."""
    return float(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def partition_prior(sizes: np.ndarray) -> float:
    """Return -ln P(b) of blocks of these sizes, none empty."""
    n, n_blocks = float(sizes.sum()), len(sizes)
    return float(
        log_binomial(n - 1, n_blocks - 1) + gammaln(n + 1) - gammaln(sizes + 1).sum() + np.log(n)
    )


def edge_count_prior(n_blocks: np.ndarray | float, n_edges: float) -> np.ndarray:
    """Return -ln P(e) of the flat model: all tables of counts with that sum alike."""
    pairs = np.asarray(n_blocks, dtype=float) * (np.asarray(n_blocks) + 1) / 2
    return gammaln(pairs + n_edges) - gammaln(n_edges + 1) - gammaln(pairs)


def sums_prior(n_items: np.ndarray | float, total: float) -> np.ndarray:
    """Return -ln P(x_rs | x): sums of the block pairs with an edge, uniform on their simplex."""
    n_items = np.maximum(np.asarray(n_items, dtype=float), 1.0)
    return (n_items - 1) * np.log(total if total > 0 else 1.0) - gammaln(n_items)


def simplex_table(largest: int, shape: float) -> np.ndarray:
    """Return ln Gamma(a e) - e ln Gamma(a) for e = 0 ... largest; 0 at 0."""
    e = np.arange(largest + 1)
    return np.concatenate([[0.0], gammaln(shape * e[1:]) - e[1:] * gammaln(shape)])


def normal_cost(
    count: np.ndarray, total: np.ndarray, squares: np.ndarray, mean: float, variance: float
) -> np.ndarray:
    """Return the normal-inverse-gamma cost of weights with these sums (module text)."""
    n = np.maximum(count, 1.0)
    spread = np.maximum(squares - total**2 / n, 0.0)
    scale = variance + spread / 2 + count / (2 * (1 + count)) * (total / n - mean) ** 2
    log_p = (
        gammaln(1 + count / 2) + np.log(variance) - (1 + count / 2) * np.log(scale)
        - np.log1p(count) / 2 - count / 2 * np.log(2 * np.pi)
    )  # fmt: skip
    return np.where(count > 0, -log_p, 0.0)


def log_restricted_partitions(largest: int, n_nodes: int) -> LogQ:
    """Return ln q(m, n), partitions of m <= largest into at most n <= n_nodes parts.

    Notes
    -----
    From the exact recursion q(m, n) = q(m, n - 1) + q(m - n, n) while its table stays under 80 MB,
    else from Szekeres' asymptotic form (2017 paper, appendix), within 1 % of the logarithm.
    """
    if (largest + 1) * (n_nodes + 1) > _LARGEST_TABLE:
        return _szekeres
    table = np.full((n_nodes + 1, largest + 1), -np.inf)
    table[0, 0] = 0.0
    for n in range(1, n_nodes + 1):
        padded = np.full(-(-(largest + 1) // n) * n, -np.inf)
        padded[: largest + 1] = table[n - 1]
        summed = np.logaddexp.accumulate(padded.reshape(-1, n), axis=0)
        table[n] = summed.ravel()[: largest + 1]

    def log_q(m: np.ndarray, n: np.ndarray) -> np.ndarray:
        return table[np.asarray(n, dtype=np.intp), np.asarray(m, dtype=np.intp)]

    return log_q


def _szekeres(m: np.ndarray, n: np.ndarray) -> np.ndarray:
    m, n = np.broadcast_arrays(np.asarray(m, dtype=float), np.asarray(n, dtype=float))
    out = np.zeros(m.shape)
    few = (n < np.maximum(m, 1) ** 0.25) & (n > 0) & (m > 0)
    out[few] = (
        gammaln(m[few]) - gammaln(n[few]) - gammaln(m[few] - n[few] + 1) - gammaln(n[few] + 1)
    )
    many = ~few & (n > 0) & (m > 0)
    u = np.minimum(n[many], m[many]) / np.sqrt(m[many])
    v = u.copy()
    for _ in range(100):
        v = u * np.sqrt(spence(np.exp(-v)))
    log_f = np.log(v / (2**1.5 * np.pi * u)) - 0.5 * np.log(
        np.maximum(1 - (1 + u**2 / 2) * np.exp(-v), 1e-12)
    )
    log_g = 2 * v / u - u * np.log(-np.expm1(-v))
    out[many] = np.maximum(log_f - np.log(m[many]) + np.sqrt(m[many]) * log_g, 0.0)
    return out
