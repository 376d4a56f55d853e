"""Gaussian-process factor analysis by elephant's own functions, on binned counts."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr

from neuropipe.baselines.config import GPFAConfig
from neuropipe.baselines.coupled import LEARNS, WRITES, Coupled, open_door, through
from neuropipe.baselines.smoothed_factors import candidates, factor_analysis, roots
from neuropipe.batching.held_units import groups_of
from neuropipe.batching.paired import read_training
from neuropipe.batching.refusals import NOTHING_TO_TELL, refuse_unfitted, say_undefined
from neuropipe.config import build
from neuropipe.errors import BackendUnavailable, DataError
from neuropipe.schema import Recording, Var

log = logging.getLogger(__name__)

# Bins on either side of a piece that only inform its middle: some length scales, within bounds;
# a piece has four times as many, and the cost of inferring them together grows with the cube.
MARGIN, MARGIN_SCALES = (25, 75), 4.0
GP_NOISE = 1e-3  # share of a latent's variance that is white, not learned, as elephant's


def elephant_core() -> Any:
    """Return elephant's module of GPFA's equations.

    Raises
    ------
    BackendUnavailable
        If the package is not installed.
    """
    try:
        with warnings.catch_warnings():  # of the packages that it imports
            warnings.simplefilter("ignore")
            from elephant.gpfa import gpfa_core
    except ImportError as error:
        raise BackendUnavailable(
            f"gpfa: the baseline needs the package elephant ({error}); install it by pip install "
            "'neuropipe[gpfa]', or leave gpfa out of `baselines`"
        ) from None
    return gpfa_core


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Hold back what elephant prints, and its warning that a variance has reached its floor."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", UserWarning)
        yield


@dataclass(frozen=True)
class Process:
    """Fitted GPFA; called, it returns latents of windows.

    Attributes
    ----------
    counted : bool
        Whether square roots are taken.
    loading : (unit, latent)
    mean, noise : (unit,)
    gamma : (latent,), per squared bin
        Inverse square of the length scales.
    """

    counted: bool
    loading: np.ndarray
    mean: np.ndarray
    noise: np.ndarray
    gamma: np.ndarray

    def parameters(self, seen: np.ndarray) -> dict[str, Any]:
        """Return the model of some units (unit,) bool, as elephant has it."""
        return {
            "covType": "rbf", "gamma": self.gamma, "eps": np.full(len(self.gamma), GP_NOISE),
            "C": self.loading[seen], "d": self.mean[seen], "R": np.diag(self.noise[seen]),
            "notes": {"learnKernelParams": True, "learnGPNoise": False, "RforceDiagonal": True},
        }  # fmt: skip

    def __call__(self, blocks: Sequence[np.ndarray], seen: np.ndarray) -> np.ndarray:
        """Return posterior means of windows (bin, unit), given the units that are seen.

        Long windows are inferred in overlapping pieces; between stretches of observed bins latents
        are interpolated.
        """
        core = elephant_core()
        longest = float(1 / np.sqrt(self.gamma.min()))
        margin = int(np.clip(np.ceil(MARGIN_SCALES * longest), *MARGIN))
        pieces, keep = [], []
        for window, block in enumerate(roots(blocks, self.counted)):
            for start, stop in _observed(block):
                for first, last, low, high in _pieces(stop - start, margin):
                    pieces.append(block[start + first : start + last, seen])
                    keep.append((window, start + first, low, high))
        out = [np.full((len(b), len(self.gamma)), np.nan) for b in blocks]
        if pieces:
            with _quietly():
                found, _ = core.exact_inference_with_ll(
                    sequences(pieces), self.parameters(seen), get_ll=False
                )
            for (window, first, low, high), latent in zip(
                keep, found["latent_variable"], strict=True
            ):
                out[window][first + low : first + high] = latent[:, low:high].T
        return np.concatenate([_bridged(x) for x in out])


def sequences(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Return windows (bin, unit) as elephant takes them."""
    out = np.empty(len(blocks), dtype=[("T", int), ("y", object)])
    for k, block in enumerate(blocks):
        out[k] = len(block), np.ascontiguousarray(block.T)
    return out


def _observed(block: np.ndarray) -> list[tuple[int, int]]:
    """Return start and stop of each stretch without a missing bin."""
    seen = np.concatenate([[False], np.isfinite(block).all(1), [False]])
    edges = np.flatnonzero(seen[1:] != seen[:-1])
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _pieces(length: int, margin: int) -> list[tuple[int, int, int, int]]:
    """Return pieces of one length: first and last bin, and which of its bins are kept."""
    whole = 4 * margin
    if length <= whole:
        return [(0, length, 0, length)]
    starts = [*range(0, length - whole, 2 * margin), length - whole]
    out, done = [], 0
    for k, start in enumerate(starts):
        end = length if k == len(starts) - 1 else start + whole - margin
        out.append((start, start + whole, done - start, end - start))
        done = end
    return out


def _bridged(latent: np.ndarray) -> np.ndarray:
    """Interpolate latents (bin, latent) over missing bins; zero, the prior, where all are."""
    known = np.isfinite(latent).all(1)
    if known.all() or not known.any():
        return np.nan_to_num(latent)
    at = np.arange(len(latent))
    return np.stack([np.interp(at, at[known], column[known]) for column in latent.T], 1)


class GPFA:
    """Latents with a Gaussian process each, behind square roots of counts with Gaussian noise.

    Parameters
    ----------
    **settings
        Fields of `GPFAConfig`.

    Notes
    -----
    EM, posterior and kernel updates are elephant's; so are its start and its fixed share of white
    noise. Windows of any length are cut to even pieces for EM, where elephant draws overlapping
    segments from NumPy's global generator. Held-out units are left out of the posterior. The
    number of latents is chosen inside the training windows, by units of the last third that are
    told from the others.

    Source: Yu et al., "Gaussian-process factor analysis for low-dimensional single-trial analysis
    of neural population activity", J. Neurophysiol. 2009; elephant, RRID:SCR_003833.
    """

    reads: ClassVar[tuple[str, ...]] = ("counts",)
    writes: ClassVar[Mapping[str, Var]] = WRITES
    learns: ClassVar[Mapping[str, Var]] = {
        **LEARNS,
        "length_scale": Var(("latent",), "s", "f", "of the kernel exp(-d^2 / 2 l^2)"),
    }

    def __init__(self, **settings: Any) -> None:
        self.config = build(GPFAConfig, settings, type(self).__name__)

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Fit on the training windows, on CPU; nothing is drawn, so the seed is not used.

        Raises
        ------
        BackendUnavailable
            If elephant is not installed.
        """
        elephant_core()
        c = self.config
        parts = read_training(
            recordings, neural=c.observations, signals=c.signals, min_spikes=c.min_spikes
        )
        door = open_door(parts, c)
        if len(door.units) < 2:
            raise DataError(
                f"gpfa: {len(door.units)} unit is left, expected at least 2, which the library's "
                "fit needs; lower min_spikes, or leave this baseline out"
            )
        data = roots([b for p in parts for b in p.neural], door.counted)
        pieces = segments(data, c.segment_bins)
        numbers = candidates(c.n_latents, len(door.units))
        errors = np.zeros(len(numbers))
        if len(numbers) > 1:
            kept = max(2 * len(pieces) // 3, 1)
            for k, number in enumerate(numbers):
                encoder, _ = self._learned(pieces[:kept], number, door, c.choice_iterations)
                errors[k] = left_out_error(encoder, pieces[kept:] or pieces)
        n_latents = numbers[int(np.argmin(errors))]
        encoder, values = self._learned(pieces, n_latents, door, c.max_iterations)
        order = np.argsort(-np.linalg.norm(encoder.loading, axis=0))
        encoder = Process(
            door.counted, encoder.loading[:, order], encoder.mean, encoder.noise,
            encoder.gamma[order],
        )  # fmt: skip
        log.info("gpfa: %d latents, %d iterations", n_latents, len(values))
        self._coupled = Coupled.fit(encoder, parts, door, degree=c.behavior_degree, linear=False)
        self._tried = np.array(numbers), errors
        finite = np.array(values)[np.isfinite(values)]
        self.history_ = xr.Dataset(
            {"objective": ("step", -finite, {"units": "nats"})},
            attrs={"converged": int(len(values) < c.max_iterations)},
        )
        return self

    def _learned(
        self, pieces: Sequence[np.ndarray], n_latents: int, door: Any, iterations: int
    ) -> tuple[Process, list[float]]:
        """Run EM on pieces (bin, unit) of square roots; also the log-likelihoods, some NaN."""
        c = self.config
        model, mean = factor_analysis(np.concatenate(pieces), n_latents)
        gamma = np.full(n_latents, (door.bin_width_s / c.length_scale_s) ** 2)
        floor = c.min_noise_share * np.concatenate(pieces).var(0)
        noise = np.maximum(model.noise_variance_, np.maximum(floor, 1e-9))
        start = Process(door.counted, model.components_.T, mean, noise, gamma)
        with _quietly():
            found, _, values, _ = elephant_core().em(
                start.parameters(np.ones(len(mean), bool)), sequences(pieces),
                max_iters=iterations, tol=c.tolerance, min_var_frac=c.min_noise_share,
            )  # fmt: skip
        noise = np.diag(found["R"])
        made = Process(door.counted, found["C"], found["d"], noise, found["gamma"])
        return made, [float(v) for v in values]

    @property
    def parameters_(self) -> xr.Dataset:
        """Loadings, length scales, and the left-out error of each number that was tried."""
        coupled: Any = self._coupled
        length = coupled.door.bin_width_s / np.sqrt(coupled.encoder.gamma)
        out = coupled.labelled(length_scale=("latent", length, {"units": "s"}))
        numbers, errors = self._tried
        if len(numbers) == 1:
            return out
        names = np.array([str(n) for n in numbers], dtype=object)
        return out.assign(dimension_score=("dimension", errors, {"units": "1"})).assign_coords(
            dimension=("dimension", names, {"units": ""})
        )

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return ``latent (time, latent)``, ``rate (time, unit)`` and ``behavior``."""
        windows = self._windows(recording)
        return self._coupled.estimates(windows)

    def score(self, recording: Recording) -> dict[str, float]:
        """Return the scores of `Coupled.scores`."""
        windows = self._windows(recording)
        scores = self._coupled.scores(windows)
        return say_undefined(scores, recording, NOTHING_TO_TELL)

    def _windows(self, recording: Recording) -> Any:
        refuse_unfitted(self, "_coupled")
        return through(self._coupled.door, recording, self.config)

    def save(self, path: Path) -> None:
        """Write the fitted baseline into a folder."""
        refuse_unfitted(self, "_coupled")
        self._coupled.save(path, self.config, tried=self._tried[0], error=self._tried[1])

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""
        coupled, config, arrays = Coupled.load(path, Process)
        out = cls(**GPFAConfig.model_validate_json(config).model_dump())
        out._coupled, out._tried = coupled, (arrays["tried"], arrays["error"])
        return out


def segments(blocks: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    """Cut windows (bin, unit) at missing bins, and then to even pieces of at most `most` bins."""
    out = []
    for block in blocks:
        for start, stop in _observed(block):
            out += np.array_split(block[start:stop], -(-(stop - start) // most))
    return out


def left_out_error(encoder: Process, pieces: Sequence[np.ndarray]) -> float:
    """Return the squared error of left-out units over their variance, mean over units."""
    plain = Process(False, *(getattr(encoder, n) for n in ("loading", "mean", "noise", "gamma")))
    data = np.concatenate(pieces)
    variance = np.maximum(data.var(0), 1e-12)
    total = 0.0
    for held in groups_of(data.shape[1]):
        found = plain(pieces, ~held) @ encoder.loading[held].T + encoder.mean[held]
        total += float(((data[:, held] - found) ** 2 / variance[held]).sum())
    return total / data.size
