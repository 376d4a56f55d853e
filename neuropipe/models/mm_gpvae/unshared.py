"""The model without sharing: a GP-VAE of each modality, and regressions from one to the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr

from neuropipe.batching.paired import Paired, read_paired
from neuropipe.batching.sequences import in_order
from neuropipe.config import build
from neuropipe.errors import NotFittedError
from neuropipe.metrics import mean_r2
from neuropipe.models.mm_gpvae.config import Config
from neuropipe.models.mm_gpvae.estimator import MMGPVAE
from neuropipe.models.mm_gpvae.scores import neural_score
from neuropipe.schema import Recording, Var

PENALTIES = np.logspace(-2, 4, 7)  # of ridge, chosen by leaving bins out
WEIGHT_SD = 1.0  # of the Poisson regression's weights, latents having sd 1


class UnsharedGPVAE:
    """Two GP-VAEs with as many latents as the MM-GPVAE lets each modality see.

    Parameters
    ----------
    **settings
        Fields of the MM-GPVAE's `config.Config`; its shared latents are given to both.

    Notes
    -----
    What the MM-GPVAE adds to this is learning latents of one modality with an eye to the other.
    Behaviour is read from the neural posterior means by ridge regression, counts from those of
    behaviour by Poisson regression (traces by ridge), all fitted on training windows.
    """

    reads: ClassVar[tuple[str, ...]] = ("counts",)
    writes: ClassVar[Mapping[str, Var]] = MMGPVAE.writes
    learns: ClassVar[Mapping[str, Var]] = {
        name: MMGPVAE.learns[name]
        for name in ("length_scale", "modality_weight", "variance_explained")
    }
    config: Config

    def __init__(self, **settings: Any) -> None:
        self.config = build(Config, settings, type(self).__name__)
        self._parts = {n: MMGPVAE(**alone(self.config, n)) for n in modalities(self.config)}

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Fit each modality by itself, then the regressions between them."""
        files = {
            name: None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.{name}")
            for name in self._parts
        }
        for name, part in self._parts.items():
            part.fit(recordings, seed=seed, device=device, checkpoint=files[name])
        self._readouts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if len(self._parts) == 2:
            ordered = in_order(recordings)
            data = [self._data(r) for r in ordered]
            for name, other in (("behavior", "neural"), ("neural", "behavior")):
                x = np.concatenate([self._latents(r, other) for r in ordered])
                y = np.concatenate([np.concatenate(getattr(d, name)) for d in data])
                counted = name == "neural" and self._scaling.counted
                self._readouts[name] = (poisson if counted else ridge)(x, y)
        self._fitted = True
        for file in files.values():
            if file is not None:
                file.unlink(missing_ok=True)
        return self

    @property
    def _scaling(self) -> Any:
        return next(iter(self._parts.values()))._scaling

    def _data(self, recording: Recording) -> Paired:
        c = self.config
        signals = () if c.modalities == "neural" else c.signals
        return read_paired(recording, neural=c.observations, signals=signals).only(
            self._scaling.units
        )

    def _latents(self, recording: Recording, name: str) -> np.ndarray:
        """Return the posterior means (bin, latent) of one modality's own latents."""
        return self._parts[name].transform(recording)["latent"].values.astype(float)

    @property
    def parameters_(self) -> xr.Dataset:
        """Length scales, weights and shares of both, one after the other."""
        found = {name: part.parameters_ for name, part in self._parts.items()}
        one = {"units": "1"}
        sizes = [p.sizes["latent"] for p in found.values()]
        shares = np.zeros((len(found), sum(sizes)))
        for row, (p, stop) in enumerate(zip(found.values(), np.cumsum(sizes), strict=True)):
            shares[row, stop - p.sizes["latent"] : stop] = p["variance_explained"].values[0]
        names = np.array(list(found), dtype=object)
        weight = np.concatenate([p["modality_weight"].values for p in found.values()])
        length = np.concatenate([p["length_scale"].values for p in found.values()])
        return xr.Dataset(
            {
                "length_scale": ("latent", length, {"units": "s"}),
                "modality_weight": ("modality", weight, one),
                "variance_explained": (("modality", "latent"), shares, one),
            },
            {
                "kind": ("latent", np.repeat(names, sizes), {"units": ""}),
                "modality": ("modality", names, {"units": ""}),
            },
        )

    @property
    def history_(self) -> xr.Dataset:
        """The sum of both losses, one step an epoch."""
        courses = [part.history_ for part in self._parts.values()]
        n = min(c.sizes["step"] for c in courses)
        total = np.sum([c["objective"].values[:n] for c in courses], 0)
        return xr.Dataset(
            {"objective": ("step", total, {"units": "nats/bin"})},
            attrs={"converged": int(all(c.attrs["converged"] for c in courses))},
        )

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return the latents of both, and what each makes of its own modality."""
        self._check()
        found = [part.transform(recording) for part in self._parts.values()]
        out = xr.concat([f[["latent", "latent_sd"]] for f in found], "latent")
        for f in found:
            out = out.assign({n: f[n] for n in ("rate", "trace", "behavior") if n in f})
        return out

    def score(self, recording: Recording) -> dict[str, float]:
        """Return the scores of the MM-GPVAE; behaviour from neural activity by regression."""
        self._check()
        out: dict[str, float] = {}
        if "neural" in self._parts:
            out.update(self._parts["neural"].score(recording))
        if self._readouts:
            data, scaling = self._data(recording), self._scaling
            bits = "bits_per_spike" if scaling.counted else "r2"
            x = self._latents(recording, "neural")
            weight, offset = self._readouts["behavior"]
            behavior = np.concatenate(data.behavior)
            mean = self._parts["behavior"]._scaling.behavior_mean
            out["behavior_from_neural_r2"] = mean_r2(x @ weight.T + offset, behavior, mean)
            weight, offset = self._readouts["neural"]
            eta = self._latents(recording, "behavior") @ weight.T + offset
            found = np.exp(np.minimum(eta, 20.0)) if scaling.counted else eta
            neural = np.concatenate(data.neural)
            out[f"neural_from_behavior_{bits}"] = neural_score(found, neural, scaling)
        if "behavior" in self._parts:
            out.update(self._parts["behavior"].score(recording))
        return out

    def _check(self) -> None:
        if not hasattr(self, "_fitted"):
            raise NotFittedError("UnsharedGPVAE: call fit (or load) before transform and score")

    def save(self, path: Path) -> None:
        """Write ``config.json``, the regressions and a folder for each modality."""
        self._check()
        (path / "config.json").write_text(self.config.model_dump_json(indent=1))
        for name, part in self._parts.items():
            (path / name).mkdir(exist_ok=True)
            part.save(path / name)
        arrays: dict[str, np.ndarray] = {}
        for name, (weight, offset) in self._readouts.items():
            arrays |= {f"{name}_weight": weight, f"{name}_offset": offset}
        np.savez(path / "readouts.npz", **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""
        config = Config.model_validate_json((path / "config.json").read_text())
        out = cls(**config.model_dump())
        out._parts = {name: MMGPVAE.load(path / name) for name in out._parts}
        with np.load(path / "readouts.npz") as saved:
            names = {key.rsplit("_", 1)[0] for key in saved.files}
            out._readouts = {n: (saved[f"{n}_weight"], saved[f"{n}_offset"]) for n in names}
        out._fitted = True
        return out


def modalities(config: Config) -> tuple[str, ...]:
    """Return the modalities that are modelled."""
    return ("neural", "behavior") if config.modalities == "both" else (config.modalities,)


def alone(config: Config, name: str) -> dict[str, Any]:
    """Return the settings of one modality's GP-VAE; of several numbers of latents the largest."""
    n_neural = max(s + n for s, n, _ in config.candidates)
    n_behavior = max(s + b for s, _, b in config.candidates)
    return config.model_dump() | {
        "modalities": name, "n_shared": 0, "try_latents": (),
        "n_neural": n_neural if name == "neural" else 0,
        "n_behavior": n_behavior if name == "behavior" else 0,
    }  # fmt: skip


def ridge(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (channel, latent) and offset of ridge regression, channel by channel."""
    from sklearn.linear_model import RidgeCV

    weight, offset = np.zeros((y.shape[1], x.shape[1])), np.zeros(y.shape[1])
    for c in range(y.shape[1]):
        seen = np.isfinite(y[:, c])
        model = RidgeCV(PENALTIES).fit(x[seen], y[seen, c])
        weight[c], offset[c] = model.coef_, model.intercept_
    return weight, offset


def poisson(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (unit, latent) and offset of log rates."""
    from sklearn.linear_model import PoissonRegressor

    weight, offset = np.zeros((y.shape[1], x.shape[1])), np.zeros(y.shape[1])
    seen = np.isfinite(y).all(1)
    for u in range(y.shape[1]):
        model = PoissonRegressor(
            alpha=1 / (seen.sum() * WEIGHT_SD**2), solver="newton-cholesky", max_iter=200
        )
        model.fit(x[seen], y[seen, u])
        weight[u], offset[u] = model.coef_, model.intercept_
    return weight, offset
