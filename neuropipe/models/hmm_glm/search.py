"""Where EM starts and how far it goes: screening of restarts, the final fit, number of states."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from neuropipe.models.hmm_glm.ascent import ascend
from neuropipe.models.hmm_glm.config import Config
from neuropipe.models.hmm_glm.model import (
    Batch,
    Fit,
    Form,
    Parameters,
    e_step,
    expectation_maximization,
)
from neuropipe.models.hmm_glm.onehot import Edges, empirical_bayes
from neuropipe.runtime import generator
from neuropipe.training.checkpoint import Checkpoint
from neuropipe.training.processes import count, share, together

log = logging.getLogger(__name__)
DWELL = 50  # bins that a random start gives to one state at a time


@dataclass
class Outcome:
    """A finished search."""

    parameters: Parameters
    fit: Fit
    edges: Edges | None
    seconds: list[float] = field(default_factory=list)
    screened: Tensor | None = None  # (iteration, R) nats/bin of the part that was screened


def form_of(config: Config, prior: str) -> Form:
    """Return the observation model with a Gaussian prior or none."""
    sd = config.prior_sd if prior == "gaussian" else None
    return Form(
        config.family, config.link, config.share_bias, sd, config.ridge_sd, config.pseudo_count
    )


def one_state(batch: Batch, form: Form) -> Parameters:
    """Fit the model with one state: a plain GLM, and every restart's first guess."""
    n_neurons, n_features = batch.counts.shape[1], batch.features.shape[1]
    mean = batch.counts[batch.observed].mean(0)
    weight = batch.features.new_zeros(1, 1, n_neurons, n_features)
    ones = batch.features.new_ones(1, 1)
    start = Parameters(
        weight,
        inverse_link(mean, form)[None, None],
        ones[None],
        ones,
        weight.new_ones(1, n_neurons),
    )
    if form.family == "gaussian":
        noise = batch.counts[batch.observed].std(0).clamp_min(1e-6)
        start = start._replace(noise_std=noise[None])
    everything = batch.observed.to(weight.dtype)[:, None, None]
    keep = own_bins(batch)
    weight, bias = ascend(own(batch), everything[keep], start, replace(form, prior_sd=None), 30)
    return start._replace(weight=weight, bias=bias)


def inverse_link(mean: Tensor, form: Form) -> Tensor:
    """Return the predictor that gives a mean, kept off the link's ends."""
    if form.family == "gaussian":
        return mean
    if form.link == "sigmoid":
        p = mean.clamp(1e-3, 0.95)
        return torch.log(p / (1 - p))
    mean = mean.clamp_min(1e-3)
    return mean.log() if form.link == "exp" else mean + torch.log(-torch.expm1(-mean))


def random_start(
    batch: Batch,
    glm: Parameters,
    form: Form,
    n_states: int,
    config: Config,
    rng: np.random.Generator,
) -> Parameters:
    """Give each restart its own sticky segmentation and fit it once from there.

    The first one clusters stretches of time by their mean counts, for states that differ in rate
    more than in interactions; the others are random.
    """
    n_bins, n_restarts = len(batch.counts), config.n_restarts if n_states > 1 else 1
    label = rng.integers(n_states, size=(n_restarts, n_bins // DWELL + 1))
    if n_states > 1 and n_restarts > 1:
        label[0] = clustered_by_rate(batch, n_states, rng)
    label = label.repeat(DWELL, 1)
    share = 0.1 / max(n_states - 1, 1)
    gamma = torch.full((n_bins, n_restarts, n_states), share, dtype=glm.weight.dtype)
    chosen = torch.as_tensor(label[:, :n_bins].T.copy())[..., None]
    gamma.scatter_(2, chosen, 0.9 if n_states > 1 else 1.0)
    gamma = gamma.to(batch.features.device) * batch.observed[:, None, None]
    stay = config.stay if n_states > 1 else 1.0
    transition = glm.weight.new_full((n_states, n_states), (1 - stay) / max(n_states - 1, 1))
    transition.fill_diagonal_(stay)
    start = Parameters(
        glm.weight.repeat(n_restarts, n_states, 1, 1),
        glm.bias.repeat(n_restarts, n_states, 1),
        transition.repeat(n_restarts, 1, 1),
        glm.weight.new_full((n_restarts, n_states), 1 / n_states),
        glm.noise_std.repeat(n_restarts, 1),
    )
    weight, bias = ascend(own(batch), gamma[own_bins(batch)], start, form, 3)
    return start._replace(weight=weight, bias=bias)


def clustered_by_rate(batch: Batch, n_states: int, rng: np.random.Generator) -> np.ndarray:
    """Return a label for each stretch of `DWELL` bins, by k-means of its mean counts."""
    counts = batch.counts.double().cpu().numpy()
    start = np.arange(0, len(counts), DWELL)
    size = np.diff(np.append(start, len(counts)))
    mean = np.add.reduceat(counts, start) / size[:, None]
    mean = mean / np.maximum(mean.std(0), 1e-12)
    label = rng.integers(n_states, size=len(counts) // DWELL + 1)
    if len(start) >= n_states:
        seed = int(rng.integers(1 << 31))
        found = KMeans(n_states, n_init=3, random_state=seed).fit_predict(mean)
        label[: len(found)] = found
    return label


def head(batch: Batch, n_bins: int, rng: np.random.Generator) -> Batch:
    """Return random whole sequences of about `n_bins` bins; long ones are cut, not dropped."""
    lengths = batch.lengths.cpu().numpy()
    if lengths.sum() <= n_bins:
        return batch
    start = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    pieces = []
    left = n_bins
    for i in rng.permutation(len(lengths)):
        take = min(int(lengths[i]), left)
        pieces.append((int(start[i]), take))
        left -= take
        if left <= 0:
            break
    index = torch.cat([torch.arange(a, a + n) for a, n in pieces]).to(batch.features.device)
    length = torch.tensor([n for _, n in pieces], device=batch.lengths.device)
    return Batch(batch.features[index], batch.counts[index], batch.observed[index], length)


def run_em(
    name: str, batch: Batch, start: Parameters, form: Form, config: Config, checkpoint: Checkpoint,
    max_iterations: int, seconds: list[float] | None = None,
) -> Fit:  # fmt: skip
    """Run or resume one stage of EM, sequences shared by all processes."""
    device, dtype = batch.features.device, batch.features.dtype
    saved = checkpoint.get(name)
    trace: list[Tensor] = []
    if saved:
        start = Parameters(*(p.to(device, dtype) for p in saved["parameters"]))
        trace = list(saved["trace"])
        if saved["done"]:
            return Fit(start, torch.stack(trace), saved["converged"])
    began = time.perf_counter()

    def report(iteration: int, parameters: Parameters, done: list[Tensor], value: Tensor) -> None:
        if seconds is not None:
            seconds.append(time.perf_counter() - began)
        log.info("%s: iteration %d, objective %.2f nats", name, iteration, float(value.max()))
        kept = {"parameters": tuple(p.cpu() for p in parameters), "trace": torch.stack(done) if done
                else torch.zeros(0, len(value))}  # fmt: skip
        checkpoint.put(name, kept)

    fit = expectation_maximization(
        own(batch), start, form, max_iterations=max_iterations, tolerance=config.tolerance,
        trace=trace, report=report,
    )  # fmt: skip
    content = {
        "parameters": tuple(p.cpu() for p in fit.parameters),
        "trace": fit.objective,
        "converged": fit.converged,
    }
    checkpoint.put(name, content, done=True)
    return fit


def search(
    batch: Batch,
    n_states: int,
    config: Config,
    *,
    seed: int,
    checkpoint: Checkpoint,
    name: str = "",
) -> Outcome:
    """Find the best fit of one number of states.

    Random restarts are screened together, with a Gaussian prior, on a part of the data; the best
    one is continued on all data. A fit without prior continues from there (flat likelihoods have
    more bad optima when data are scarce), and so does the one-hot refinement.

    Parameters
    ----------
    batch : Batch
        Training data.
    n_states : int
        Hidden states.
    config : Config
        All other settings.
    seed : int
        Of the restarts.
    checkpoint : Checkpoint
        Where stages are kept.
    name : str
        Prefix of the stages' names.
    """
    with together():
        return _search(batch, n_states, config, seed, checkpoint, name)


def _search(
    batch: Batch, n_states: int, config: Config, seed: int, checkpoint: Checkpoint, name: str
) -> Outcome:
    """Search, sequences shared by all processes; what is drawn is drawn by each alike."""
    rng = generator(seed, f"restarts-{n_states}")
    gaussian = form_of(config, "gaussian")
    part = head(batch, config.screen_bins, rng)
    glm = one_state(part, gaussian)
    start = random_start(part, glm, gaussian, n_states, config, rng)
    courses = None
    if n_states > 1:
        screened = run_em(
            f"{name}screen", part, start, gaussian, config, checkpoint, config.screen_iterations
        )
        start = screened.parameters.pick(int(screened.objective[-1].argmax()))
        courses = screened.objective / len(part.counts)
    seconds: list[float] = []
    final = form_of(config, "none") if config.prior == "none" else gaussian
    if config.prior == "none" and n_states > 1:
        settled = run_em(f"{name}prior", batch, start, gaussian, config, checkpoint, 20)
        start = settled.parameters
    fit = run_em(
        f"{name}main", batch, start, final, config, checkpoint, config.max_iterations, seconds
    )
    if not bool(fit.converged.all()):
        log.warning(
            "%smain: not converged after %d iterations; raise max_iterations", name,
            len(fit.objective),
        )  # fmt: skip
    parameters, edges = fit.parameters, None
    if config.prior == "one_hot":
        parameters, edges = empirical_bayes(own(batch), parameters, form_of(config, "none"))
    return Outcome(parameters, fit, edges, seconds, courses)


def choose_n_states(
    batch: Batch, numbers: Sequence[int], config: Config, *, seed: int, checkpoint: Checkpoint
) -> tuple[int, np.ndarray]:
    """Choose the number of states by held-out likelihood inside the training data.

    Parameters
    ----------
    batch : Batch
        Training data, at least as many sequences as inner folds.
    numbers : sequence of int
        Candidates.
    config : Config
        `selection_folds` inner folds by sequence; the Gaussian prior is used throughout.
    seed : int
        Of the folds and restarts.
    checkpoint : Checkpoint
        Where finished fits are kept.

    Returns
    -------
    best : int
        The candidate with the highest mean; the smaller one of equals.
    log_likelihood : (fold, candidate), nats/bin
        Held-out.
    """
    sequences = len(batch.lengths)
    folds = min(config.selection_folds, sequences)
    fold_of = generator(seed, "selection").permutation(np.arange(sequences) % folds)
    light = config.model_copy(update={"prior": "gaussian", "max_iterations": 40})
    form = form_of(config, "gaussian")
    table = np.full((folds, len(numbers)), np.nan)
    for fold in range(folds):
        train, held = (take(batch, np.flatnonzero(side)) for side in
                       (fold_of != fold, fold_of == fold))  # fmt: skip
        for column, n_states in enumerate(numbers):
            found = search(
                train, n_states, light, seed=seed, checkpoint=checkpoint,
                name=f"select-{n_states}-{fold}-",
            )  # fmt: skip
            evidence = e_step(held, found.parameters, form).log_evidence[0]
            table[fold, column] = float(evidence) / max(int(held.observed.sum()), 1)
            log.info("n_states %d, inner fold %d: %.4f nats/bin held out", n_states, fold,
                     table[fold, column])  # fmt: skip
    return int(numbers[int(table.mean(0).argmax())]), table


def own(batch: Batch) -> Batch:
    """Return this process's share of a batch's sequences."""
    return batch if count() == 1 else take(batch, share(range(len(batch.lengths))))


def own_bins(batch: Batch) -> slice:
    """Return the bins of this process's sequences."""
    if count() == 1:
        return slice(None)
    mine = share(range(len(batch.lengths)))
    stop = batch.lengths.cumsum(0).tolist()
    return slice(stop[mine.start] - int(batch.lengths[mine.start]), stop[mine.stop - 1])


def take(batch: Batch, sequences: Sequence[int] | np.ndarray) -> Batch:
    """Return some of a batch's sequences."""
    stop = batch.lengths.cumsum(0)
    pieces = [torch.arange(int(stop[i] - batch.lengths[i]), int(stop[i])) for i in sequences]
    index = torch.cat(pieces).to(batch.features.device)
    return Batch(
        batch.features[index], batch.counts[index], batch.observed[index],
        batch.lengths[torch.as_tensor(np.asarray(sequences), device=batch.lengths.device)],
    )  # fmt: skip
