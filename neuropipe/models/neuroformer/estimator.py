"""The Neuroformer as an estimator: labelled arrays in, labelled arrays out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr

from neuropipe.batching.decoding import decoding_scores
from neuropipe.batching.raster import Raster
from neuropipe.batching.refusals import NO_SPIKE, say_undefined
from neuropipe.batching.tokens import window_mean
from neuropipe.config import build
from neuropipe.errors import NotFittedError
from neuropipe.metrics import likelihood_scores
from neuropipe.models.neuroformer.config import REVISION, Config
from neuropipe.models.neuroformer.connectivity import edges_of, shuffled
from neuropipe.models.neuroformer.few_shot import few_shot_curve
from neuropipe.models.neuroformer.fitted import (
    Fitted,
    load,
    load_pretrained,
    room_for,
    stretches_of,
)
from neuropipe.models.neuroformer.generation import Spikes, free_running, teacher_forced
from neuropipe.models.neuroformer.learned import labelled
from neuropipe.models.neuroformer.model import Network
from neuropipe.models.neuroformer.scaling import Scaling, read_training, sizes_of
from neuropipe.models.neuroformer.training import initialise, tokens_an_epoch, train
from neuropipe.models.neuroformer.transfer import check_alike, freeze, take_weights, with_scales
from neuropipe.runtime import generator, pick_device
from neuropipe.schema import Recording, Var
from neuropipe.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)

PAIRS = ("unit", "source_unit")


def _edges(label: str, meaning: str) -> dict[str, Var]:
    return {
        label: Var(PAIRS, "1", "f", meaning, optional=True),
        f"{label}_z": Var(PAIRS, "1", "f", "distance from the median pair, sds", optional=True),
        f"{label}_p": Var(PAIRS, "1", "f", "chance in refits of shuffled data", optional=True),
    }


class Neuroformer:
    """A generative model of spikes, conditioned on stimulus and behaviour.

    Every spike is a token, its unit and its bin. The network says which comes next, given the
    spikes of the window so far, those before the window, the stimulus and covariates; behaviour is
    read off the same state.

    Parameters
    ----------
    **settings
        Fields of `config.Config`.

    Attributes
    ----------
    parameters_ : Dataset
        What was learned: `learns`.
    history_ : Dataset
        ``objective (step)``, nats a token, and its terms, one step an epoch; attr ``converged``.

    Notes
    -----
    Source: Antoniades et al., "Neuroformer: multimodal and multitask generative pretraining for
    brain data", ICLR 2024. Time and unit of the next spike are predicted in a chain instead of
    independently (``heads: independent`` and the preset ``faithful`` are the paper's); held-out
    data are blocks, with no history over their edges, where the authors' loaders draw single
    windows at random.

    Windows are the fold's stretches cut into `window_bins`; the last one of a stretch may be
    shorter, and is then scored as a window whose end nobody saw.
    """

    reads: ClassVar[tuple[str, ...]] = ("counts",)
    writes: ClassVar[Mapping[str, Var]] = {
        "predicted_rate": Var(
            ("time", "unit"), "Hz", "f", "expected spikes of each bin given all recorded before"
        ),
        "behavior": Var(
            ("time", "channel"), None, "f", "decoded, of the bin's window", optional=True
        ),
        "generated_rate": Var(
            ("time", "unit"), "Hz", "f", "mean of runs drawn from their own past", optional=True
        ),
        "generated_count": Var(("time", "unit"), "1", "i", "one of these runs", optional=True),
    }
    learns: ClassVar[Mapping[str, Var]] = {
        "rate": Var(("unit",), "Hz", "f", "mean training rate"),
        "unit_embedding": Var(("unit", "feature"), "1", "f", "of the units' tokens"),
        "few_shot_r": Var(
            ("start", "label_share"), "1", "f", "of behaviour, after few labels", optional=True
        ),
        "few_shot_null_r": Var(
            ("start", "label_share"), "1", "f", "95th percentile of shifts", optional=True
        ),
        **_edges("connectivity", "change of log-rate for a spike of the source a bin before"),
        **_edges("attention_connectivity", "attention to the source's past spikes"),
        **_edges("perturbation_connectivity", "change of log-rate when a spike is added"),
    }

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
        """Learn from the windows of one or several sessions.

        Parameters
        ----------
        recordings : sequence of DataTree
            Sessions with node ``counts`` and, where a fold has set it, node ``windows``. Each has
            units of its own; signals and stimulus must be alike.
        seed : int
            Of weights, batches, dropout and shuffles.
        device : str
            ``auto``, ``cpu`` or a CUDA device.
        checkpoint : Path, optional
            File that the fit resumes from and keeps its progress in.

        Raises
        ------
        DataError
            If too few spikes are left, a covariate is NaN, or sessions differ in their bins.
        ConfigError
            If `pretrained` names no fit, or one of another network.
        """
        config = self.config
        rasters, scaling = read_training(recordings, config)
        where = pick_device(device)
        before = None if config.pretrained is None else load_pretrained(config.pretrained)
        if before is not None:
            scaling = with_scales(scaling, before.scaling, config, before.config)
        network = Network.blank(config.form, sizes_of(scaling, config))
        initialise(network, scaling, generator(seed, "init"))
        origin = "" if before is None else self._start(network, scaling, before)
        network.to(where)
        kept = Checkpoint(checkpoint, self._fingerprint(rasters, seed, origin))
        log.info(
            "neuroformer: %d units, %d spikes, %d weights, %s", scaling.n_units,
            sum(int(r.total().sum()) for r in rasters),
            sum(p.numel() for p in network.parameters()), where,
        )  # fmt: skip
        history = train(network, rasters, scaling, config, seed=seed, kept=kept)
        network.requires_grad_(True).eval()
        self._fitted = Fitted(
            config, network, scaling, room_for(rasters, config),
            {r.key: stretches_of(r) for r in rasters},
            {} if before is None else {**before.earlier, **before.trained},
        )  # fmt: skip
        edges = {r.key: edges_of(network, r, scaling, config, seed=seed) for r in rasters}
        null = self._null(rasters, seed, kept)
        self.parameters_ = labelled(network, rasters, scaling, config, edges, null)
        if config.few_shot:
            curve = few_shot_curve(rasters, config, seed=seed, device=where, kept=kept)
            self.parameters_ = self.parameters_.merge(curve)
        self.history_ = history.dataset("nats/token")
        if config.objective != "behavior":
            self.history_.attrs["tokens_per_epoch"] = tokens_an_epoch(rasters, config)
        return self

    def _start(self, network: Network, scaling: Scaling, before: Fitted) -> str:
        """Take what a pretrained network knows, and return what it was."""
        config, given = self.config, before.network
        check_alike(
            config.form, before.config.form, network.sizes, given.sizes, str(config.pretrained)
        )
        same = (config.targets, network.sizes.n_classes) == (
            before.config.targets, given.sizes.n_classes
        )  # fmt: skip
        weights = given.state_dict()
        fresh = take_weights(network, scaling, weights, before.scaling, same_targets=same)
        if config.trunk == "frozen":
            freeze(network, fresh)
        return _digest([v.numpy() for v in weights.values()])

    def _null(
        self, rasters: Sequence[Raster], seed: int, kept: Checkpoint
    ) -> dict[str, dict[str, np.ndarray]]:
        """Return the connectivity of fits to shuffled data, by session and method."""
        config, own = self.config, self._fitted
        found = []
        for n in range(config.null_refits if config.connectivity else 0):
            rng = generator(seed, f"shuffle-{n}")
            moved = [shuffled(r, rng) for r in rasters]
            network = Network.blank(config.form, own.network.sizes)
            initialise(network, own.scaling, generator(seed, f"init-shuffle-{n}"))
            network.to(next(own.network.parameters()).device)
            train(network, moved, own.scaling, config, seed=seed, kept=kept, stage=f"shuffle-{n}")
            found.append(
                {r.key: edges_of(network, r, own.scaling, config, seed=seed) for r in moved}
            )
        if not found:
            return {}
        return {
            r.key: {m: np.stack([f[r.key][m] for f in found]) for m in config.connectivity}
            for r in rasters
        }

    def _fingerprint(self, rasters: Sequence[Raster], seed: int, origin: str) -> str:
        text = f"{REVISION} {seed} {self.config.model_dump_json()} {origin}"
        arrays = [
            np.ascontiguousarray(a)
            for r in rasters
            for a in (r.time, r.first, r.stop, r.event_bin, r.event_unit, r.signal)
        ]
        return hashlib.sha256((text + _digest(arrays)).encode()).hexdigest()

    def _known(self) -> Fitted:
        if not hasattr(self, "_fitted"):
            raise NotFittedError("Neuroformer: call fit (or load) before anything else")
        return self._fitted

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return rates, decoded behaviour and drawn runs for a recording's windows.

        Returns
        -------
        Dataset
            ``predicted_rate (time, unit)``: expected spikes of each bin given all recorded ones
            before, and those of units with smaller numbers in the same bin (`rates`); no draws.
            ``behavior (time, channel)``, that of the bin's window. With ``n_samples``:
            ``generated_rate`` and ``generated_count (time, unit)``, drawn from the stretch's start
            on without a look at its spikes.
        """
        config, known = self.config, self._known()
        raster = known.read(recording)
        found = known.run(raster, rates=True)
        width = raster.bin_width_s
        rate = np.asarray(found.expected / width, dtype=np.float32)
        variables: dict[str, Any] = {"predicted_rate": (("time", "unit"), rate, {"units": "Hz"})}
        coords: dict[str, Any] = {
            "time": ("time", raster.time, {"units": "s"}),
            "unit": (
                "unit", raster.unit, {"units": "1" if raster.unit.dtype.kind in "iu" else ""}
            ),
        }  # fmt: skip
        if found.decoded is not None:
            value = np.repeat(found.decoded, found.windows.size, 0).astype(np.float32)
            units = raster.channel_units[len(config.covariates) :]
            kind = units[0] if len(set(units)) == 1 else "mixed"
            variables["behavior"] = (("time", "channel"), value, {"units": kind})
            coords["channel"] = ("channel", np.array(config.targets, dtype=object), {"units": ""})
            coords["channel_unit"] = ("channel", np.array(units, dtype=object), {"units": ""})
        if config.n_samples:
            spikes = self.generate(recording, n_samples=config.n_samples, seed=0)
            counts = spikes.counts(config.n_samples, len(raster.time), len(raster.unit))
            rate = (counts.mean(0) / width).astype(np.float32)
            variables["generated_rate"] = (("time", "unit"), rate, {"units": "Hz"})
            variables["generated_count"] = (("time", "unit"), counts[0], {"units": "1"})
        return xr.Dataset(variables, coords, {"window_bins": config.window_bins})

    def generate(
        self,
        recording: Recording,
        *,
        n_samples: int,
        seed: int,
        teacher: bool = False,
        max_windows: int | None = None,
    ) -> Spikes:
        """Draw runs from the network for a recording's windows.

        Parameters
        ----------
        recording : DataTree
            Its stimulus and covariates are what the runs are conditioned on.
        n_samples : int
            Runs.
        seed : int
            Of the draws.
        teacher : bool
            Whether each window follows the recorded past; by default it follows the drawn one.
        max_windows : int, optional
            Of each stretch, where the past is the drawn one.

        Returns
        -------
        Spikes
            Bins on the recording's bins inside its windows, end to end.
        """
        known = self._known()
        raster = known.read(recording)
        given = (known.network, raster, known.scaling, self.config)
        if teacher:
            return teacher_forced(*given, n_samples=n_samples, room=known.room, seed=seed)
        return free_running(
            *given, n_samples=n_samples, room=known.room, seed=seed, max_windows=max_windows
        )

    def score(self, recording: Recording) -> dict[str, float]:
        """Return how well a recording's windows are predicted and decoded.

        Returns
        -------
        dict
            ``bits_per_spike`` over the training rates, of the same bins, and
            ``log_likelihood_per_bin``; ``joint_cross_entropy`` of a token, which is that of its
            time and, given the time, of its unit; with targets the `decoding_scores` of windows.

        Notes
        -----
        A window's tokens and its counts are one and the same, so the tokens' likelihood is that
        of the counts, and comparable with a point process's on the same bins. Independent heads
        spend some of it on orders that cannot be.
        """
        known, config = self._known(), self.config
        raster = known.read(recording)
        found = known.run(raster, rates=False)
        total, n = found.time + found.unit, max(found.n_tokens, 1)
        out = likelihood_scores(total, raster.counts(), known.scaling.rate[raster.key])
        out["joint_cross_entropy"] = -total / n
        out["time_cross_entropy"] = -found.time / n
        out["unit_cross_entropy"] = -found.unit / n
        if found.decoded is not None:
            channel = len(config.covariates) + np.arange(len(config.targets))
            out |= decoding_scores(
                window_mean(raster, found.windows, channel), found.decoded,
                rng=generator(0, "decoding-null"), n_shuffles=config.n_shuffles,
            )  # fmt: skip
        return say_undefined(out, recording, f"{NO_SPIKE}, or too few windows with a label")

    def save(self, path: Path) -> None:
        """Write ``config.json`` and ``weights.pt`` into a folder that exists."""
        self._known().save(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; transform and score then work as after fit, on CPU."""
        fitted = load(path)
        out = cls(**fitted.config.model_dump())
        out._fitted = fitted
        return out


def _digest(arrays: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
