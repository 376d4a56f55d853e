"""Scores that several models and baselines share: arrays in, plain floats out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln, xlogy

UNITS = {
    "log_likelihood_per_bin": "nats/bin",
    "bits_per_spike": "bits/spike",
    "bits_per_bin": "bits/bin",
    "explained_variance": "1",
    "accuracy": "1",
    "top_5_accuracy": "1",
    "chance_accuracy": "1",
    "class_log_likelihood": "nats/trial",
    "co_smoothing_bits_per_spike": "bits/spike",
    "neural_from_behavior_bits_per_spike": "bits/spike",
    "behavior_from_neural_r2": "1",
    "behavior_r2": "1",
    "co_smoothing_r2": "1",
    "neural_from_behavior_r2": "1",
    "two_way_image": "1",
    "two_way_text": "1",
    "image_retrieval_top1": "1",
    "image_retrieval_top5": "1",
    "brain_retrieval_top1": "1",
    "brain_retrieval_top5": "1",
    "pixel_correlation": "1",
    "structural_similarity": "1",
    "joint_cross_entropy": "nats/token",
    "time_cross_entropy": "nats/token",
    "unit_cross_entropy": "nats/token",
    "decoding_r": "1",
    "decoding_r2": "1",
    "decoding_null_r": "1",
    "decoding_p": "1",
}
# Scores of which less is better, and levels of chance, which nobody wins.
LESS_IS_BETTER = frozenset(
    {"joint_cross_entropy", "time_cross_entropy", "unit_cross_entropy", "decoding_p"}
)
CHANCE = frozenset({"chance_accuracy", "decoding_null_r"})


def poisson_log_likelihood(counts: np.ndarray, rate: np.ndarray) -> float:
    """Return the Poisson log-likelihood, nats, of counts (bin, unit) at mean `rate` per bin."""
    return float((xlogy(counts, rate) - rate - gammaln(counts + 1)).sum())


def likelihood_scores(log_likelihood: float, counts: np.ndarray, rate: np.ndarray) -> dict:
    """Return the scores that every spike model reports for held-out bins.

    Parameters
    ----------
    log_likelihood : float, nats
        Of all bins together.
    counts : (bin, unit)
        The observed held-out bins.
    rate : (unit,)
        Mean count a bin in the training data, the null model.
    """
    null = poisson_log_likelihood(counts, rate)
    return {
        "log_likelihood_per_bin": log_likelihood / max(len(counts), 1),
        "bits_per_spike": bits_per_spike(log_likelihood, null, float(counts.sum())),
    }


def bits_per_spike(log_likelihood: float, null_log_likelihood: float, n_spikes: float) -> float:
    """Return the gain in log-likelihood over a null model, in bits per spike.

    Parameters
    ----------
    log_likelihood, null_log_likelihood : float, nats
        Of the same held-out bins; the null is each unit's constant training rate.
    n_spikes : float
        Spikes in those bins.

    Notes
    -----
    NaN when there are no spikes: the score is then undefined, not zero.
    """
    if n_spikes <= 0:
        return float("nan")
    return float((log_likelihood - null_log_likelihood) / (n_spikes * np.log(2)))


def rate_bits_per_spike(rate: np.ndarray, counts: np.ndarray, null: np.ndarray) -> float:
    """Return the gain of predicted rates over constant ones, in bits per spike.

    Parameters
    ----------
    rate : (bin, unit), spikes a bin
        Predicted; raised to 1e-9 where it is lower, since a lone spike at rate zero would decide
        the whole score.
    counts : (bin, unit)
        Observed; a bin with a NaN is left out.
    null : (unit,)
        Each unit's mean count a bin in the training data.
    """
    seen = np.isfinite(counts).all(1)
    y = counts[seen]
    return bits_per_spike(
        poisson_log_likelihood(y, np.maximum(rate[seen], 1e-9)),
        poisson_log_likelihood(y, np.broadcast_to(np.maximum(null, 1e-9), y.shape)),
        float(y.sum()),
    )


def mean_r2(prediction: np.ndarray, data: np.ndarray, mean: np.ndarray) -> float:
    """Return the mean over channels of 1 - SSE / SST, SST about the training mean.

    Parameters
    ----------
    prediction, data : (bin, channel)
        NaN in `data` are left out; a channel that never departs from its mean is, too.
    mean : (channel,)
        Of the training data, so that a constant prediction by it scores exactly zero.

    Notes
    -----
    NaN when no channel is left.
    """
    seen = np.isfinite(data)
    error = np.where(seen, data - prediction, 0.0)
    about = np.where(seen, data - mean, 0.0)
    total = (about**2).sum(0)
    used = total > 1e-12 * np.maximum(np.abs(mean), 1e-30) ** 2
    if not used.any():
        return float("nan")
    return float(np.mean(1 - (error**2).sum(0)[used] / total[used]))


def top_k_accuracy(probability: np.ndarray, number: np.ndarray, k: int) -> float:
    """Return the share of trials whose class is among the k most probable ones.

    Parameters
    ----------
    probability : (trial, class)
        Classes that tie are all ahead of each other, so that ties never help.
    number : (trial,), integer
        The true class; -1 for one that is not among them.
    k : int
    """
    if not len(number):
        return float("nan")
    own = np.take_along_axis(probability, np.maximum(number, 0)[:, None], 1)
    return float(np.mean((number >= 0) & ((probability >= own).sum(1) <= k)))


def class_scores(
    probability: np.ndarray, label: np.ndarray, classes: Sequence[str], share: np.ndarray
) -> dict[str, float]:
    """Return the scores that every decoder of trials reports.

    Parameters
    ----------
    probability : (trial, class)
    label : (trial,) str
        Empty where a trial has none; such trials do not count.
    classes : sequence of str
        Of the training data; a trial of any other class is wrong, and no part of the likelihood.
    share : (class,)
        Of the training trials.

    Returns
    -------
    dict
        ``accuracy``; ``top_5_accuracy`` where there are more than 5 classes; ``chance_accuracy``,
        that of always naming the most frequent training class; ``class_log_likelihood``, nats a
        trial, minus the log-loss.
    """
    said = label != ""
    number = np.array([list(classes).index(v) if v in classes else -1 for v in label[said]], int)
    probability = probability[said]
    known = number >= 0
    likelihood = np.log(np.maximum(probability[known, number[known]], 1e-12))
    out = {
        "accuracy": top_k_accuracy(probability, number, 1),
        "top_5_accuracy": top_k_accuracy(probability, number, 5),
        "chance_accuracy": float(np.mean(number == np.argmax(share))) if said.any() else np.nan,
        "class_log_likelihood": float(likelihood.mean()) if known.any() else float("nan"),
    }
    if len(classes) <= 5:
        out.pop("top_5_accuracy")
    return out


def match_labels(first: np.ndarray, second: np.ndarray, n_labels: int) -> np.ndarray:
    """Return the relabelling of `second` that agrees best with `first`.

    Parameters
    ----------
    first, second : (time,), integer
        Labels in ``range(n_labels)``; negative entries are left out.
    n_labels : int
        Number of labels.

    Returns
    -------
    (n_labels,), integer
        ``order`` such that ``order[second]`` is comparable with `first` (Hungarian assignment).
    """
    both = (first >= 0) & (second >= 0)
    table = np.zeros((n_labels, n_labels))
    np.add.at(table, (second[both], first[both]), 1)
    rows, columns = linear_sum_assignment(-table)
    order = np.empty(n_labels, dtype=int)
    order[rows] = columns
    return order


def label_accuracy(truth: np.ndarray, estimate: np.ndarray, n_labels: int) -> float:
    """Return the share of bins whose label is right under the best relabelling."""
    order = match_labels(truth, estimate, n_labels)
    keep = (truth >= 0) & (estimate >= 0)
    return float(np.mean(order[estimate[keep]] == truth[keep]))


def partition_agreement(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Return how alike two partitions of the same nodes are; 1 is the same.

    Parameters
    ----------
    first, second : (node,), integer
        Which label a group has means nothing.

    Returns
    -------
    dict
        ``nmi``: normalised mutual information, arithmetic mean of the entropies; it rises with
        the number of communities by chance alone. ``ami`` and ``ari``: adjusted mutual
        information and adjusted Rand index, 0 at chance. All by scikit-learn; 1 where both
        partitions are a single community.
    """
    from sklearn.metrics import (
        adjusted_mutual_info_score,
        adjusted_rand_score,
        normalized_mutual_info_score,
    )

    return {
        "nmi": float(normalized_mutual_info_score(first, second)),
        "ami": float(adjusted_mutual_info_score(first, second)),
        "ari": float(adjusted_rand_score(first, second)),
    }


def congruence(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return how alike matched components of two factorisations are.

    Parameters
    ----------
    first, second : sequence of (entry, component)
        Factors of each mode; the same modes in the same order.

    Returns
    -------
    similarity : (component of `first`,)
        Product over modes of the cosines with the matched component; 0 where it has none.
    match : (component of `first`,), integer
        The matched component of `second` (Hungarian assignment), -1 for none.
    """
    alike = np.ones((first[0].shape[1], second[0].shape[1]))
    for a, b in zip(first, second, strict=True):
        lengths = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(b, axis=0)
        alike *= (a.T @ b) / np.where(lengths > 0, lengths, 1)
    rows, columns = linear_sum_assignment(-alike)
    match = np.full(len(alike), -1)
    match[rows] = columns
    similarity = np.zeros(len(alike))
    similarity[rows] = alike[rows, columns]
    return similarity, match


def bootstrap_interval(
    values: np.ndarray, *, seed: int, level: float = 0.95, n_draws: int = 2000
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean.

    Parameters
    ----------
    values : (sample,)
        One value per independent sample (fold, session or subject); NaN are left out.
    seed : int
        Of the draws.
    level : float
        Coverage, 0.95 by default.
    n_draws : int
        Resamples.
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(n_draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
