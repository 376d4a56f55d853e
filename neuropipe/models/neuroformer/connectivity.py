"""Who drives whom, asked of a trained network in three ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from neuropipe.batching.decoding import circular_shifts
from neuropipe.batching.raster import Raster
from neuropipe.batching.tokens import Windows, cut_windows
from neuropipe.models.neuroformer.attention import Block, Rows
from neuropipe.models.neuroformer.batches import in_batches, make_batch
from neuropipe.models.neuroformer.config import Config
from neuropipe.models.neuroformer.generation import PAST
from neuropipe.models.neuroformer.model import Batch, Network
from neuropipe.models.neuroformer.rates import expected_counts
from neuropipe.models.neuroformer.scaling import Scaling
from neuropipe.runtime import generator

LEAST_CHANCE = 1e-6  # of a spike in a bin; below, its logarithm says nothing
RIDGE = 1e-3  # of the mean variance of the sources
ATTENTION_SHIFTS = 4  # each is a pass of the network
CONTEXTS = 128  # windows that every source is tried in


def edges_of(
    network: Network, raster: Raster, scaling: Scaling, config: Config, *, seed: int
) -> dict[str, np.ndarray]:
    """Return the matrices (unit, source) of every method that the configuration asks for."""
    windows = cut_windows(raster, config.window_bins, config.history_bins)
    windows = windows.take(np.arange(min(len(windows), config.connectivity_windows)))
    given = (network, raster, windows, scaling, config)
    out: dict[str, np.ndarray] = {}
    for method in config.connectivity:
        if method == "readout":
            out[method] = readout(raster, *chances(*given))
        elif method == "attention":
            out[method] = attention(*given, seed=seed)
        else:
            out[method] = perturbation(*given, seed=seed)
    return out


def outlier(value: np.ndarray) -> np.ndarray:
    """Return how far each pair lies from the median pair, in sds estimated robustly.

    Notes
    -----
    It takes for granted that most pairs are not connected, and says nothing of how well the
    network learned; `shuffled` data, fitted again, do.
    """
    n = len(value)
    pairs = value[~np.eye(n, dtype=bool)]
    if len(pairs) < 2:
        return np.full_like(value, np.nan)
    middle = np.median(pairs)
    spread = 1.4826 * np.median(np.abs(pairs - middle))
    return (value - middle) / (spread if spread > 0 else np.nan)


def chance_of(value: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Return two-sided p of each pair against all pairs of fits to shuffled data.

    Parameters
    ----------
    value : (unit, source)
    null : (fit, unit, source)
        Every pair of it is unconnected, so all of them are one null.
    """
    pairs = null[:, ~np.eye(len(value), dtype=bool)].ravel()
    middle = np.median(pairs)
    size = np.sort(np.abs(pairs - middle))
    above = len(size) - np.searchsorted(size, np.abs(value - middle), side="left")
    return (1 + above) / (1 + len(size))


def shuffled(raster: Raster, rng: np.random.Generator) -> Raster:
    """Return the raster with every unit shifted circularly by a time of its own.

    Notes
    -----
    A unit keeps its rate and its own course; what it shares with others, with the stimulus and
    with behaviour is lost. Shifts run over the bins inside the stretches, end to end.
    """
    inside = np.flatnonzero(raster.inside())
    place = np.full(len(raster.time), -1)
    place[inside] = np.arange(len(inside))
    shift = circular_shifts(len(inside), len(raster.unit), rng)
    at = place[raster.event_bin]
    seen = at >= 0
    unit = raster.event_unit[seen]
    moved = inside[(at[seen] + shift[unit]) % len(inside)]
    order = np.lexsort([unit, moved])
    return replace(raster, event_bin=moved[order], event_unit=unit[order])


@torch.no_grad()
def chances(
    network: Network, raster: Raster, windows: Windows, scaling: Scaling, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the network expects of each bin, given all spikes before.

    Returns
    -------
    expected : (bin, unit)
    bins : (bin,)
        Of the raster, in order of time.
    """
    device = next(network.parameters()).device
    parts, bins = [], []
    lag = np.arange(config.window_bins)
    several = torch.as_tensor(scaling.several[raster.key]).to(device)
    for part, batch in in_batches(raster, windows, scaling, config, device):
        found = expected_counts(network, network(batch), batch, several).cpu().numpy()
        inside = lag < part.size[:, None]
        parts.append(found[inside])
        bins.append((part.start[:, None] + lag)[inside])
    return np.concatenate(parts), np.concatenate(bins)


def readout(raster: Raster, expected: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Regress the log-chances of the next bin on who fires in this one.

    Parameters
    ----------
    raster : Raster
    expected, bins
        From `chances`.

    Returns
    -------
    (unit, source)
        Change of a unit's log-chance for one spike of the source in the bin before, all other
        sources held, by ridge regression over natural contexts.

    Notes
    -----
    Reading the next token instead would mostly measure the order of tokens: a spike makes units
    with smaller numbers impossible in its own bin.
    """
    n = len(raster.unit)
    place = np.full(len(raster.time), -1)
    place[bins] = np.arange(len(bins))
    at = place[raster.event_bin]
    source = np.zeros((len(bins), n))
    np.add.at(source, (at[at >= 0], raster.event_unit[at >= 0]), 1)
    log_chance = np.log(np.maximum(expected, LEAST_CHANCE))
    stretch = np.searchsorted(raster.first, bins, side="right")
    before = np.flatnonzero((np.diff(bins) == 1) & (stretch[1:] == stretch[:-1]))
    x, y = source[before], log_chance[before + 1]
    x, y = x - x.mean(0), y - y.mean(0)
    gram = x.T @ x
    gram[np.diag_indices(n)] += RIDGE * max(float(np.trace(gram)) / n, 1e-12)
    return np.linalg.solve(gram, x.T @ y).T


@torch.no_grad()
def attention(
    network: Network,
    raster: Raster,
    windows: Windows,
    scaling: Scaling,
    config: Config,
    *,
    seed: int,
) -> np.ndarray:
    """Average the attention that tokens before a unit's spikes pay to the sources' past spikes.

    Returns
    -------
    (unit, source)
        Mean weight of one past spike, last layer that attends to the past, less what it is when
        the past is shifted circularly against the present.

    Notes
    -----
    A report, not a measure: much of the attention goes to tokens that are no spikes, and weights
    of earlier layers and the MLPs are not in it.
    """
    rng = generator(seed, "attention-shifts")
    moved = circular_shifts(len(windows), ATTENTION_SHIFTS, rng).tolist()
    found = []
    for shift in [0, *moved]:
        other = windows.take(np.roll(np.arange(len(windows)), shift))
        found.append(_mean_weights(network, raster, windows, other, scaling, config))
    return found[0] - np.mean(found[1:], 0) if moved else found[0]


def _mean_weights(
    network: Network,
    raster: Raster,
    windows: Windows,
    past: Windows,
    scaling: Scaling,
    config: Config,
) -> np.ndarray:
    n, device = len(raster.unit), next(network.parameters()).device
    total, number = torch.zeros(n * n, dtype=torch.float64), torch.zeros(n * n, dtype=torch.float64)
    for start in range(0, len(windows), 256):
        at = np.arange(start, min(start + 256, len(windows)))
        batch = make_batch(raster, windows.take(at), scaling, config, device)
        other = make_batch(raster, past.take(at), scaling, config, device)
        batch = {**batch, **{name: other[name] for name in PAST}}
        weight = _last_weights(network, batch)  # (window, position, past position)
        rows = Rows(batch["mask"], batch["flat"])
        past_rows = Rows(batch["past_mask"], batch["past_flat"])
        spikes = batch["target_bin"] < config.window_bins
        unit = rows.padded(torch.where(spikes, batch["target_unit"], -1) + 1) - 1
        source = past_rows.padded((batch["past_unit"] - batch["units"][0]).clamp(min=0)) - 1
        pair = (unit[:, :, None] >= 0) & (source[:, None, :] >= 0)
        cell = (unit[:, :, None] * n + source[:, None, :])[pair].cpu()
        total += torch.bincount(cell, weight[pair].double().cpu(), minlength=n * n)
        number += torch.bincount(cell, minlength=n * n)
    mean = total / number.clamp(min=1)
    return torch.where(number > 0, mean, 0.0).view(n, n).numpy()


def _last_weights(network: Network, batch: Batch) -> Tensor:
    """Return the weights of the last block that attends to the past."""
    x, rows = network.current(batch)
    past, past_rows = network.streams(batch).past
    for block in network.to_past[:-1]:
        x = block(x, rows, past, past_rows)
    last: Block = network.to_past[-1]  # type: ignore[assignment]
    return last.attention.weights(last.before(x), rows, last.source(past), past_rows)


@torch.no_grad()
def perturbation(
    network: Network,
    raster: Raster,
    windows: Windows,
    scaling: Scaling,
    config: Config,
    *,
    seed: int,
) -> np.ndarray:
    """Add one spike of a source to the bin before a window, and look at the window's first bin.

    Returns
    -------
    (unit, source)
        Mean change of a unit's log-chance in the first bin, over contexts drawn from the windows.
    """
    n = len(raster.unit)
    # so far apart that a spike before one window is in no other's past
    apart = -(-config.history_bins // config.window_bins) + 1
    full = np.flatnonzero(windows.past >= 1)[::apart]
    rng = generator(seed, "perturbation")
    chosen = np.sort(rng.choice(full, min(CONTEXTS, len(full)), replace=False))
    windows = windows.take(chosen)
    silent = _first_chances(network, raster, windows, scaling, config)
    change = np.zeros((n, n))
    for source in range(n):
        extra = _with_spike(raster, windows.start - 1, source)
        moved = _first_chances(network, extra, windows, scaling, config)
        change[:, source] = (moved - silent).mean(0)
    return change


def _with_spike(raster: Raster, bins: np.ndarray, unit: int) -> Raster:
    """Return the raster with one more spike of a unit in some bins."""
    event_bin = np.concatenate([raster.event_bin, bins])
    event_unit = np.concatenate([raster.event_unit, np.full(len(bins), unit)])
    order = np.lexsort([event_unit, event_bin])
    return replace(raster, event_bin=event_bin[order], event_unit=event_unit[order])


def _first_chances(
    network: Network, raster: Raster, windows: Windows, scaling: Scaling, config: Config
) -> np.ndarray:
    """Return the log-chance of a spike of each unit in the first bin, (window, unit)."""
    device = next(network.parameters()).device
    out = []
    for _, batch in in_batches(raster, windows, scaling, config, device):
        opening = batch["place"] == 0
        state = network(batch)[opening]
        spike, _ = network.heads.table(
            state, batch["units"], batch["bin"][opening], batch["last_unit"][opening]
        )
        first = spike[:, 0]
        left = (1 - (first.cumsum(1) - first)).clamp(min=LEAST_CHANCE)
        out.append((first / left).clamp(min=LEAST_CHANCE).log().cpu().numpy())
    return np.concatenate(out)
