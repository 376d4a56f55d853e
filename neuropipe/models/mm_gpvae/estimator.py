"""The MM-GPVAE as an estimator: labelled arrays in, labelled arrays out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neuropipe.batching.paired import Paired, read_known, read_training
from neuropipe.batching.refusals import NOTHING_TO_TELL, say_undefined
from neuropipe.config import build
from neuropipe.errors import DataError, NotFittedError
from neuropipe.models.mm_gpvae.batches import (
    Piece,
    Scaling,
    cut,
    cut_with_margins,
    fit_scaling,
    in_dtype,
    joined,
    starting,
    tensors,
)
from neuropipe.models.mm_gpvae.calibrate import Line, lines
from neuropipe.models.mm_gpvae.config import REVISION, Config
from neuropipe.models.mm_gpvae.learned import kinds, labelled, order_of, variance_partition
from neuropipe.models.mm_gpvae.model import MMGPVAENetwork, Start
from neuropipe.models.mm_gpvae.predict import expected, posterior
from neuropipe.models.mm_gpvae.scores import all_scores, gather, in_own_units
from neuropipe.models.mm_gpvae.train import train
from neuropipe.runtime import float_policy, pick_device
from neuropipe.schema import Recording, Var
from neuropipe.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)

MARGIN = 4.0  # length scales that a piece of a long window looks beyond what it keeps


class MMGPVAE:
    """Smooth latents that neural activity and behaviour share, and those of each alone.

    Every latent is a Gaussian process. Counts are Poisson with log rates linear in shared and
    neural latents; behaviour is a network of shared and behaviour latents, with noise.

    Parameters
    ----------
    **settings
        Fields of `config.Config`.

    Attributes
    ----------
    parameters_ : Dataset
        What was learned: `learns`.
    history_ : Dataset
        ``objective (step)``, minus the bound, and its terms, nats a bin, one step an epoch.

    Notes
    -----
    Source: Gondur et al., "Multi-modal Gaussian process variational autoencoders for neural and
    behavioral data", ICLR 2024. Where we differ, and why, is told at `config.Config`, `posterior`
    and in the model's page; the preset ``faithful`` keeps the published model without the coding
    faults of its repository.

    Latents come in the order shared, neural, behaviour, those that explain most first; their
    scale is 1 and their sign means nothing.
    """

    reads: ClassVar[tuple[str, ...]] = ("counts",)
    writes: ClassVar[Mapping[str, Var]] = {
        "latent": Var(("time", "latent"), "1", "f", "posterior mean, given both modalities"),
        "latent_sd": Var(("time", "latent"), "1", "f", "posterior sd of each latent"),
        "rate": Var(("time", "unit"), "Hz", "f", "expected rate", optional=True),
        "trace": Var(("time", "unit"), "1", "f", "expected trace", optional=True),
        "behavior": Var(
            ("time", "channel"), "", "f", "expected behaviour, unit by channel", optional=True
        ),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "length_scale": Var(("latent",), "s", "f", "of the kernel exp(-d^2 / 2 l^2)"),
        "modality_weight": Var(("modality",), "1", "f", "of each likelihood in the bound"),
        "variance_explained": Var(
            ("modality", "latent"), "1", "f",
            "share of the predicted variance lost without the latent",
        ),
        "neural_loading": Var(
            ("unit", "latent"), "1", "f", "change of the log rate by a latent", optional=True
        ),
        "neural_offset": Var(("unit",), "1", "f", "log count a bin at zero", optional=True),
        "behavior_loading": Var(
            ("channel", "latent"), "", "f", "change of a channel, in its unit", optional=True
        ),
        "behavior_noise_sd": Var(("channel",), "", "f", "noise, in its unit", optional=True),
        "dimension_score": Var(
            ("dimension",), "nats/bin", "f", "held-out bound of numbers of latents", optional=True
        ),
    }  # fmt: skip

    def __init__(self, **settings: Any) -> None:
        self.config = build(Config, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Learn from the windows of one or several sessions of a subject.

        Parameters
        ----------
        recordings : sequence of DataTree
            Prepared sessions that share units and signals: node ``counts`` (or traces), node
            ``behavior`` on the same clock, and, where a fold has set it, node ``windows``.
        seed : int
            Of the networks' start, batches and draws.
        device : str
            ``auto``, ``cpu`` or a CUDA device.
        checkpoint : Path, optional
            File that the fit resumes from and keeps its progress in.

        Raises
        ------
        DataError
            If a modality is not there or has no latent, too few spikes are left, nothing of
            behaviour changes, or the dense posterior meets windows of several lengths.
        """
        config = self.config
        parts = read_training(
            recordings, neural=config.observations, signals=self._signals(),
            min_spikes=config.min_spikes,
        )  # fmt: skip
        scaling = fit_scaling(parts, config)
        self._check(parts, scaling)
        where = pick_device(device)
        pieces = [cut([len(t) for t in p.time], config.max_bins) for p in parts]
        data = joined([
            tensors(p, c, scaling, where, torch.float32)
            for p, c in zip(parts, pieces, strict=True)
        ])  # fmt: skip
        start = starting(parts, scaling, config, data["neural"].shape[1])
        kept = Checkpoint(checkpoint, self._fingerprint(data, scaling, seed))
        log.info(
            "mm_gpvae: %d units, %d channels, %d bins in %d pieces, behaviour's weight %.3g, %s",
            len(scaling.units), len(scaling.channels), int(data["n_bins"].sum()),
            len(data["n_bins"]), start.weight, where,
        )  # fmt: skip
        net, history, tried = train(config, start, data, seed=seed, kept=kept)
        self._finish(net, scaling)
        data = in_dtype(data, self._net.basis.dtype)
        self._lines = lines(self._net, data) if config.calibrate else {}
        shares = variance_partition(self._net, data)
        self._order = order_of(shares, net.numbers)
        self.parameters_ = labelled(self._net, scaling, self._order, shares, tried)
        self.history_ = history.dataset("nats/bin")
        return self

    def _signals(self) -> tuple[str, ...] | str:
        return () if self.config.modalities == "neural" else self.config.signals

    def _check(self, parts: Sequence[Paired], scaling: Scaling) -> None:
        """Refuse modalities without data or latents, and windows that a dense map cannot read."""
        c = self.config
        if c.modalities != "neural" and not scaling.channels:
            raise DataError(
                "mm_gpvae: the recordings have no signal of behaviour; add the step "
                "resample_behavior, name `signals`, or say modalities: neural"
            )
        for s, n, b in c.candidates:
            for name, number in (("neural", s + n), ("behavior", s + b)):
                if c.modalities in ("both", name) and number == 0:
                    raise DataError(
                        f"mm_gpvae: no latent for {name} in {(s, n, b)}, numbers of shared, neural "
                        f"and behaviour latents; give it one, or say `modalities`"
                    )
        if c.image_shape is not None and scaling.channels:
            y, x = c.image_shape
            if y * x != len(scaling.channels):
                raise DataError(
                    f"mm_gpvae: image_shape {y} x {x} has {y * x} pixels, signals have "
                    f"{len(scaling.channels)} channels; they must agree"
                )
        lengths = {len(t) for p in parts for t in p.time}
        if c.posterior == "dense":
            whole = all(np.isfinite(x).all() for p in parts for x in (*p.neural, *p.behavior))
            if len(lengths) > 1 or not whole or max(lengths) > c.max_bins:
                raise DataError(
                    "mm_gpvae: posterior dense maps over time and needs complete windows of one "
                    f"length up to max_bins {c.max_bins}; found lengths {sorted(lengths)[:5]}"
                    f"{'' if whole else ' and missing bins'}; say posterior: sites"
                )
        if max(lengths) < 2:
            raise DataError(
                "mm_gpvae: no training window has two bins; use longer windows or shorter bins"
            )

    def _fingerprint(self, data: Mapping[str, Tensor], scaling: Scaling, seed: int) -> str:
        text = f"{REVISION} {seed} {self.config.model_dump_json()} {scaling.units}"
        digest = hashlib.sha256(text.encode())
        for name in sorted(data):
            digest.update(np.ascontiguousarray(data[name].cpu().numpy()).tobytes())
        return digest.hexdigest()

    def _finish(self, net: MMGPVAENetwork, scaling: Scaling) -> None:
        self._net = net.eval().to(float_policy(net.basis.device))
        self._scaling = scaling

    def _windows(self, recording: Recording) -> tuple[Paired, list[Piece], dict[str, Tensor]]:
        """Read a recording as the model knows it, cut into pieces."""
        if not hasattr(self, "_net"):
            raise NotFittedError("MMGPVAE: call fit (or load) before transform and score")
        net, scaling = self._net, self._scaling
        windows = read_known(
            recording, scaling, neural=self.config.observations, signals=self._signals()
        )
        lengths = [len(t) for t in windows.time]
        whole = all(np.isfinite(x).all() for x in (*windows.neural, *windows.behavior))
        if self.config.posterior == "dense" and ({*lengths} != {net.start.n_bins} or not whole):
            raise DataError(
                "mm_gpvae: posterior dense reads complete windows of the training length, "
                f"{net.start.n_bins} bins; found lengths {sorted({*lengths})[:5]}"
                f"{'' if whole else ' and missing bins'}; fit with posterior: sites"
            )
        margin = int(np.ceil(MARGIN * float(net.length.detach().max())))
        pieces = cut_with_margins(lengths, net.start.n_bins, margin)
        batch = tensors(windows, pieces, scaling, net.basis.device, net.basis.dtype)
        return windows, pieces, batch

    def transform(self, recording: Recording) -> xr.Dataset:
        """Infer the latents of a recording's windows from both modalities.

        Returns
        -------
        Dataset
            ``latent`` and ``latent_sd (time, latent)``, the expected ``rate (time, unit)`` (or
            ``trace``) and ``behavior (time, channel)``; coord ``window (time)``. Windows longer
            than the training pieces are inferred in overlapping pieces.
        """
        windows, pieces, batch = self._windows(recording)
        q = posterior(self._net, batch)
        order, scaling = self._order, self._scaling
        one = {"units": "1"}
        dims = ("time", "latent")
        sd = q.variance.clamp(min=0).sqrt()
        variables: dict[str, Any] = {
            "latent": (dims, gather(q.mean, pieces)[:, order].astype(np.float32), one),
            "latent_sd": (dims, gather(sd, pieces)[:, order].astype(np.float32), one),
        }
        none = {"units": ""}
        number = np.repeat(np.arange(len(windows.time)), [len(t) for t in windows.time])
        coords: dict[str, Any] = {
            "time": ("time", np.concatenate(windows.time), {"units": "s"}),
            "window": ("time", number, one),
            "kind": ("latent", kinds(self._net.numbers), none),
        }
        for name, value in expected(self._net, q).items():
            found = in_own_units(gather(value, pieces), name, scaling)
            if name == "behavior":
                variables["behavior"] = (("time", "channel"), found.astype(np.float32), none)
                coords["channel"] = ("channel", np.array(scaling.channels, dtype=object), none)
                coords["channel_unit"] = (
                    "channel", np.array(scaling.channel_units, dtype=object), none,
                )  # fmt: skip
                continue
            coords["unit"] = ("unit", np.array(scaling.units, dtype=object), none)
            label, units = ("rate", "Hz") if scaling.counted else ("trace", "1")
            if scaling.counted:
                found = found / scaling.bin_width_s
            variables[label] = (("time", "unit"), found.astype(np.float32), {"units": units})
        return xr.Dataset(variables, coords)

    def score(self, recording: Recording) -> dict[str, float]:
        """Return how well parts of a recording's windows are told from other parts.

        Returns
        -------
        dict
            ``co_smoothing_bits_per_spike``: each fifth of the units from the other units alone.
            ``behavior_from_neural_r2`` and ``neural_from_behavior_bits_per_spike``: one modality
            from the other. ``behavior_r2``: behaviour from both. For traces R2 instead of bits.
        """
        windows, pieces, batch = self._windows(recording)
        scores = all_scores(self._net, batch, pieces, windows, self._scaling, self._lines)
        return say_undefined(scores, recording, NOTHING_TO_TELL)

    def save(self, path: Path) -> None:
        """Write ``config.json`` and ``weights.pt`` into a folder that exists."""
        if not hasattr(self, "_net"):
            raise NotFittedError("MMGPVAE: nothing to save before fit")
        (path / "config.json").write_text(self.config.model_dump_json(indent=1))
        scaling = vars(self._scaling)
        torch.save(
            {
                "network": {k: v.cpu() for k, v in self._net.state_dict().items()},
                "numbers": list(self._net.numbers),
                "start": dict(self._net.start._asdict()),
                "scaling": {
                    k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v
                    for k, v in scaling.items()
                },
                "order": torch.as_tensor(self._order),
                "lines": {
                    name: (torch.as_tensor(line.values), line.logarithmic)
                    for name, line in self._lines.items()
                },
            },
            path / "weights.pt",
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; transform and score then work as after fit, on CPU."""
        config = Config.model_validate_json((path / "config.json").read_text())
        out = cls(**config.model_dump())
        saved = torch.load(path / "weights.pt", weights_only=True)
        net = MMGPVAENetwork(out.config, tuple(saved["numbers"]), Start(**saved["start"]))
        net.double().load_state_dict({k: v.double() for k, v in saved["network"].items()})
        scaling: dict[str, Any] = {
            k: v.numpy() if isinstance(v, Tensor) else v for k, v in saved["scaling"].items()
        }
        out._finish(net, Scaling(**scaling))
        out._order = saved["order"].numpy()
        out._lines = {
            name: Line(values.numpy(), logarithmic)
            for name, (values, logarithmic) in saved["lines"].items()
        }
        return out
