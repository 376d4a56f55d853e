"""What is read off the network's state: the next spike, behaviour, and how streams agree."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuropipe.training.processes import gather, part, reduce_sum

LEAST = -1e9  # log-probability of what cannot be; -inf would give gradients that are no numbers
MOST_SCALE = 100.0  # of the alignment's logits


class SpikeHeads(nn.Module):
    """The next token: its time, and the unit given the time.

    p(bin, unit | state) = p(bin | state) p(unit | state, bin). Bins are those of the window, and
    one more for its end. ``independent`` heads are the paper's: p(bin | state) p(unit | state),
    both with a value for the end.

    Parameters
    ----------
    width, n_units, window_bins : int
    chained : bool
    ordered : bool
        Whether tokens before the last one, by bin and then by unit, have no chance.

    Notes
    -----
    The condition on the bin enters through a multilayer perceptron: an additive one stalls, since
    which units fire depends on the time in ways that differ between states.
    """

    def __init__(
        self, width: int, n_units: int, window_bins: int, *, chained: bool, ordered: bool
    ) -> None:
        super().__init__()
        self.chained, self.ordered, self.window_bins = chained, ordered, window_bins
        self.time = nn.Linear(width, window_bins + 1, bias=chained)
        if chained:
            self.state = nn.Linear(width, 2 * width)
            self.bin = nn.Embedding(window_bins, 2 * width)
            self.mix = nn.Sequential(nn.GELU(), nn.Linear(2 * width, width), nn.GELU())
            self.unit_bias = nn.Parameter(torch.zeros(n_units))
        else:
            self.end = nn.Parameter(torch.zeros(1, width))
        self.unit = nn.Embedding(n_units, width)

    def log_time(self, state: Tensor, last_bin: Tensor) -> Tensor:
        """Return log p(bin | state), (token, bin + 1); the last value is the window's end.

        Parameters
        ----------
        state : (token, width)
        last_bin : (token,)
            Bin of the last spike before; 0 at the start.
        """
        logits = self.time(state).float()
        if self.ordered:
            bins = torch.arange(logits.shape[1], device=logits.device)
            logits = logits.masked_fill(bins < last_bin[:, None], LEAST)
        return logits.log_softmax(-1)

    def log_unit(
        self, state: Tensor, bin: Tensor, units: Tensor, last_bin: Tensor, last_unit: Tensor
    ) -> Tensor:
        """Return log p(unit | state, bin), (..., unit); of independent heads (..., unit + 1).

        Parameters
        ----------
        state : (..., width)
        bin : (...)
            Bin of the next spike.
        units : (unit,)
            Numbers of the session's units.
        last_bin, last_unit : (...)
            Of the last spike before; its unit by its place in `units`, 0 at the start.
        """
        table = self.unit(units)
        if not self.chained:
            return (state @ torch.cat([table, self.end]).T).float().log_softmax(-1)
        hidden = self.mix(self.state(state) + self.bin(bin))
        logits = (hidden @ table.T).float() + self.unit_bias[units]
        if self.ordered:
            place = torch.arange(len(units), device=units.device)
            gone = (place < last_unit[..., None]) & (bin == last_bin)[..., None]
            logits = logits.masked_fill(gone, LEAST)
        return logits.log_softmax(-1)

    def table(
        self, state: Tensor, units: Tensor, last_bin: Tensor, last_unit: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the chances of every next spike and of the end, given that order is kept.

        Returns
        -------
        spike : (token, bin, unit) float64
        end : (token,) float64
            Together they sum to 1. What heads without order spend on the impossible is left out.
        """
        w, n = self.window_bins, len(units)
        log_time = self.log_time(state, last_bin).double()
        bins = torch.arange(w, device=state.device)
        log_unit = self.log_unit(
            state[:, None], bins, units, last_bin[:, None], last_unit[:, None]
        ).double()
        spike = (log_time[:, :w, None] + log_unit[..., :n]).exp()
        end = log_time[:, w].exp()
        if not self.chained:
            end = end * log_unit[:, 0, n].exp()
        if not self.ordered:
            place = bins[:, None] * n + torch.arange(n, device=state.device)
            spike = spike * (place >= (last_bin * n + last_unit)[:, None, None])
            total = spike.sum((1, 2)) + end
            spike, end = spike / total[:, None, None], end / total
        return spike, end


def end_log_probability(log_time: Tensor, size: Tensor) -> Tensor:
    """Return the log-probability that no spike comes before a window's end, (token,).

    A window that its stretch cuts short ends before its last bins, which nobody saw: their
    probabilities count as the end's.

    Parameters
    ----------
    log_time : (token, bin + 1)
    size : (token,)
        Bins of each token's window.
    """
    bins = torch.arange(log_time.shape[1], device=log_time.device)
    return log_time.masked_fill(bins < size[:, None], -torch.inf).logsumexp(-1)


class BehaviorHead(nn.Module):
    """Behaviour of a window from the mean of its real tokens.

    Parameters
    ----------
    width, n_targets : int
    n_classes : int
        0 for a regression with squared error.
    hidden : bool
        Whether there is a layer between; the published head is linear.
    """

    def __init__(self, width: int, n_targets: int, n_classes: int, *, hidden: bool) -> None:
        super().__init__()
        self.n_targets, self.n_classes = n_targets, n_classes
        between = (nn.Linear(width, width), nn.GELU()) if hidden else ()
        self.out = nn.Sequential(*between, nn.Linear(width, n_targets * max(n_classes, 1)))

    def forward(self, pooled: Tensor) -> Tensor:
        """Return values (window, target), or log-probabilities (window, target, class)."""
        out = self.out(pooled).float()
        if not self.n_classes:
            return out
        return out.unflatten(1, (self.n_targets, self.n_classes)).log_softmax(-1)

    def loss(self, out: Tensor, label: Tensor) -> Tensor:
        """Return the mean loss over labels (window, target); NaN or -1 stands for none."""
        if self.n_classes:
            known = label >= 0
            chosen = out.gather(-1, label.clamp(min=0)[..., None].long())[..., 0]
            each = torch.where(known, -chosen, 0.0)
        else:
            known = torch.isfinite(label)
            each = torch.where(known, (out - torch.where(known, label, 0.0)).square(), 0.0)
        return each.sum() / reduce_sum(known.sum()).clamp(min=1)


class Alignment(nn.Module):
    """Symmetric contrastive loss between streams of the same windows, before they are fused.

    Every stream's mean feature is projected and scaled to length 1; that of a window should be
    nearest to those of the same window's other streams, in both directions.

    Parameters
    ----------
    width, n_streams : int

    Notes
    -----
    The authors compare features of their last layer, which has attended to the other stream
    already, in one direction and at a fixed temperature of 0.5; here it is where the paper draws
    it, with a learned temperature that starts there.
    """

    def __init__(self, width: int, n_streams: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(
            [nn.Linear(width, width, bias=False) for _ in range(n_streams)]
        )
        self.log_scale = nn.Parameter(torch.tensor(2.0).log())

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the loss, mean over pairs of streams, of features (window, width) each.

        Windows of all processes that share a batch are told apart from each other.
        """
        unit = [
            gather(functional.normalize(p(f), dim=-1))
            for p, f in zip(self.project, features, strict=True)
        ]  # fmt: skip
        scale = self.log_scale.exp().clamp(max=MOST_SCALE)
        same = torch.arange(len(unit[0]), device=unit[0].device)
        total, number = unit[0].new_zeros(()), 0
        for i, first in enumerate(unit):
            for second in unit[i + 1 :]:
                logits = scale * first @ second.T
                total = total + functional.cross_entropy(logits, same)
                total = total + functional.cross_entropy(logits.T, same)
                number += 2
        return part(total / number)
