"""The Neuroformer: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuropipe.models.neuroformer.attention import Rows, stack
from neuropipe.models.neuroformer.config import Form
from neuropipe.models.neuroformer.embedding import (
    CovariateEmbedding,
    FrameEmbedding,
    SpikeEmbedding,
)
from neuropipe.models.neuroformer.heads import (
    Alignment,
    BehaviorHead,
    SpikeHeads,
    end_log_probability,
)
from neuropipe.training.processes import part

Batch = Mapping[str, Tensor]


class Sizes(NamedTuple):
    """What the data say of the network."""

    n_units: int
    window_bins: int
    history_bins: int
    n_covariates: int
    frame: tuple[int, int] | None
    patch: tuple[int, int]
    n_frames: int
    n_targets: int
    n_classes: int


class Streams(NamedTuple):
    """What the current spikes attend to: packed tokens and their rows, none where there is none."""

    past: tuple[Tensor, Rows]
    stimulus: tuple[Tensor, Rows] | None
    covariates: tuple[Tensor, Rows] | None


class Network(nn.Module):
    """Spikes of a window, one token each, from its past, its stimulus and its behaviour.

    Current tokens are encoded causally; they attend to the past, to the stimulus and to the
    covariates, then causally to each other again. The state after token k says which comes next.

    Parameters
    ----------
    form : Form
        How it is built.
    sizes : Sizes
        What it is built for.

    Notes
    -----
    Source: Antoniades et al., "Neuroformer: multimodal and multitask generative pretraining for
    brain data", ICLR 2024, section 3. No token of padding is ever attended to, and none enters a
    mean.
    """

    def __init__(self, form: Form, sizes: Sizes) -> None:
        super().__init__()
        f, s = form, sizes
        self.form, self.sizes = form, sizes
        common = (f.width, f.n_heads, f.dropout)
        kind = {"published": f.published_blocks}
        self.spikes = SpikeEmbedding(s.n_units, f.width, s.window_bins, s.history_bins)
        self.encode = stack(f.layers_current, *common, cross=False, **kind)
        self.to_past = stack(f.layers_past, *common, cross=True, **kind)
        n_streams = 1
        if s.frame is not None:
            self.frames = FrameEmbedding(
                f.width, s.frame, s.patch, s.n_frames, s.window_bins, joined=f.joined_frames
            )
            self.encode_frames = stack(f.layers_frames, *common, cross=False, **kind)
            self.to_stimulus = stack(f.layers_stimulus, *common, cross=True, **kind)
            n_streams += 1
        if s.n_covariates:
            n_bins = s.history_bins + s.window_bins
            self.covariates = CovariateEmbedding(f.width, s.n_covariates, n_bins)
            self.to_covariates = stack(f.layers_covariates, *common, cross=True, **kind)
            n_streams += 1
        self.mix = stack(f.layers_state, *common, cross=False, **kind)
        self.norm = nn.Identity() if f.published_blocks else nn.LayerNorm(f.width)
        self.drop = nn.Dropout(f.dropout)
        self.heads = SpikeHeads(
            f.width, s.n_units, s.window_bins, chained=f.heads == "chained", ordered=f.ordered
        )
        self.alignment = None
        if n_streams > 1 and f.alignment_weight:
            self.alignment = Alignment(f.width, n_streams)
        self.behavior = None
        if s.n_targets:
            self.behavior = BehaviorHead(
                f.width, s.n_targets, s.n_classes, hidden=not f.published_blocks
            )

    @classmethod
    def blank(cls, form: Form, sizes: Sizes) -> Network:
        """Return a network, its weights still to be set; torch's own numbers stay untouched."""
        with torch.random.fork_rng(devices=[]):
            return cls(form, sizes)

    def streams(self, batch: Batch) -> Streams:
        """Return the tokens of past, stimulus and covariates, encoded as far as fusion."""
        past = self.spikes.past(batch["past_unit"], batch["past_lag"], batch["past_place"])
        past_rows = Rows(batch["past_mask"], batch["past_flat"])
        stimulus = covariates = None
        if self.sizes.frame is not None:
            x, mask = self.frames(batch["frame"], batch["frame_lag"], batch.get("frame_seen"))
            full = mask is None
            rows = Rows(x.new_ones(x.shape[:2], dtype=torch.bool) if full else mask, None, full)
            x = self.drop(x.flatten(0, 1))
            for block in self.encode_frames:
                x = block(x, rows, source_rows=rows)
            stimulus = (x, rows)
        if self.sizes.n_covariates:
            x, mask = self.covariates(batch["covariate"], batch["covariate_seen"])
            covariates = (self.drop(x.flatten(0, 1)), Rows(mask, None))
        return Streams((self.drop(past), past_rows), stimulus, covariates)

    def current(self, batch: Batch) -> tuple[Tensor, Rows]:
        """Return the current tokens before fusion, and their rows."""
        x = self.drop(self.spikes.current(batch["unit"], batch["bin"], batch["place"]))
        rows = Rows(batch["mask"], batch["flat"])
        for block in self.encode:
            x = block(x, rows)
        return x, rows

    def fuse(self, x: Tensor, rows: Rows, streams: Streams) -> Tensor:
        """Return the state of each current token, (token, width)."""
        for block in self.to_past:
            x = block(x, rows, *streams.past)
        if streams.stimulus is not None:
            for block in self.to_stimulus:
                x = block(x, rows, *streams.stimulus)
        if streams.covariates is not None:
            for block in self.to_covariates:
                x = block(x, rows, *streams.covariates)
        for block in self.mix:
            x = block(x, rows)
        return self.norm(x)

    def forward(self, batch: Batch) -> Tensor:
        """Return the state of each current token, (token, width)."""
        return self.fuse(*self.current(batch), self.streams(batch))

    def log_probability(self, state: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return log p of each token's successor: of its time, and of its unit given that.

        Parameters
        ----------
        state : (token, width)
        batch : mapping
            ``target_bin (token,)``, the number of bins for the end; ``target_unit (token,)``, by
            its place among the session's units; ``size (token,)``, bins of the window.

        Returns
        -------
        time, unit : (token,)
            Nats. Of an end the unit has probability 1 with chained heads.
        """
        last_bin, last_unit = batch["bin"], batch["last_unit"]
        log_time = self.heads.log_time(state, last_bin)
        target = batch["target_bin"]
        ends = target == self.sizes.window_bins
        time = log_time.gather(1, target[:, None])[:, 0]
        time = torch.where(ends, end_log_probability(log_time, batch["size"]), time)
        if not self.heads.chained:
            log_unit = self.heads.log_unit(state, target, batch["units"], last_bin, last_unit)
            return time, log_unit.gather(1, batch["target_unit"][:, None])[:, 0]
        at = batch["spike"]  # tokens that a spike follows
        log_unit = self.heads.log_unit(
            state[at], target[at], batch["units"], last_bin[at], last_unit[at]
        )
        chosen = log_unit.gather(1, batch["target_unit"][at][:, None])[:, 0]
        return time, torch.zeros_like(time).index_copy(0, at, chosen)

    def decode(self, state: Tensor, rows: Rows) -> Tensor:
        """Return the behaviour head's output for each window."""
        if self.behavior is None:
            raise ValueError("decode: the network has no behaviour head")
        return self.behavior(rows.mean(state))

    def losses(self, batch: Batch, objective: str, behavior_weight: float) -> dict[str, Tensor]:
        """Return the training loss and its terms.

        Parameters
        ----------
        batch : mapping
        objective : {"all", "spikes", "behavior"}
        behavior_weight : float

        Returns
        -------
        dict
            ``loss``; ``spikes``, nats a token; ``alignment`` and ``behavior``, where there are
            any. Of several processes each returns its part.
        """
        f = self.form
        x, rows = self.current(batch)
        streams = self.streams(batch)
        state = self.fuse(x, rows, streams)
        out: dict[str, Tensor] = {}
        loss = state.new_zeros(())
        if objective != "behavior":
            time, unit = self.log_probability(state, batch)
            n, counted = len(time), batch.get("counted")
            out["spikes"] = part(-_mean(time + unit, counted), n)
            loss = part(-_mean(f.time_weight * time + f.unit_weight * unit, counted), n)
            if self.alignment is not None:
                other = [s for s in (streams.stimulus, streams.covariates) if s is not None]
                out["alignment"] = self.alignment([rows.mean(x), *(r.mean(s) for s, r in other)])
                share = f.alignment_weight
                loss = (1 - share) * loss + share * out["alignment"]
        if self.behavior is not None and objective != "spikes":
            out["behavior"] = self.behavior.loss(self.decode(state, rows), batch["label"])
            loss = loss + behavior_weight * out["behavior"]
        return {"loss": loss, **out}


def _mean(x: Tensor, counted: Tensor | None) -> Tensor:
    """Return the mean of those values that count, all by default."""
    return x.mean() if counted is None else (x * counted).sum() / counted.sum()
