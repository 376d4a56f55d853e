"""Sessions with planted shared, neural and behaviour latents, and their truth."""

from __future__ import annotations

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator

from neuropipe.schema import SCHEMA_VERSION, Recording

KINDS = ("shared", "neural", "behavior")
HIDDEN = 16  # units of the network that behaviour is drawn through


class Plan(BaseModel):
    """What to draw; the defaults are the page's own recipe of 150 trials."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_shared: int = Field(1, ge=0)
    n_neural: int = Field(1, ge=0)
    n_behavior: int = Field(1, ge=0)
    n_trials: int = Field(150, ge=1)
    n_bins: int = Field(60, ge=4, description="Bins of a trial.")
    n_units: int = Field(60, ge=1)
    n_channels: int = Field(24, ge=1, description="Signals of behaviour.")
    length_scale_bins: float = Field(10.0, gt=0, description="Of every latent.")
    loading_sd: float = Field(0.5, gt=0, description="Of the weights of log rates on latents.")
    base_low: float = Field(0.3, gt=0, description="Lowest count a bin at zero latents.")
    base_high: float = Field(1.0, gt=0, description="Highest.")
    noise_sd: float = Field(0.3, ge=0, description="Of behaviour.")
    bin_width_s: float = Field(0.05, gt=0)
    gap_bins: int = Field(5, ge=0, description="Silence between trials.")

    @model_validator(mode="after")
    def _seen(self) -> Plan:
        if self.n_shared + min(self.n_neural, self.n_behavior) < 1:
            raise ValueError("a modality has no latent: set n_shared, or n_neural and n_behavior")
        if self.base_low > self.base_high:
            raise ValueError("base_low is above base_high")
        return self


def gp_latents(
    rng: np.random.Generator, n_trials: int, n_bins: int, lengths: np.ndarray
) -> np.ndarray:
    """Draw (trial, bin, latent) from the exact RBF kernel of variance 1, lengths in bins."""
    lag = np.arange(n_bins)[:, None] - np.arange(n_bins)
    out = [
        rng.multivariate_normal(
            np.zeros(n_bins), np.exp(-(lag**2) / (2 * length**2)) + 1e-8 * np.eye(n_bins),
            n_trials, method="cholesky",
        )
        for length in lengths
    ]  # fmt: skip
    return np.stack(out, -1)


def draw(plan: Plan, seed: int) -> dict[str, np.ndarray]:
    """Draw latents, counts and behaviour.

    Returns
    -------
    dict
        ``latent (trial, bin, latent)`` in the order shared, neural, behaviour; ``rate`` and
        ``count (trial, bin, unit)``, a bin; ``behavior`` and ``clean (trial, bin, channel)``, with
        and without noise; ``loading (unit, latent)``, zero for behaviour latents.

    Notes
    -----
    Counts are Poisson with log rates linear in the latents, behaviour is a random network (one
    layer of tanh) of its latents. At a given seed the defaults give the very numbers that the
    levels of the tests were set with.
    """
    rng = np.random.default_rng(seed)
    s, n, b = plan.n_shared, plan.n_neural, plan.n_behavior
    drawn = gp_latents(rng, plan.n_trials, plan.n_bins, np.full(n + s + b, plan.length_scale_bins))
    weight = rng.standard_normal((plan.n_units, n + s)) * plan.loading_sd
    base = np.log(rng.uniform(plan.base_low, plan.base_high, plan.n_units))
    rate = np.exp(drawn[..., : n + s] @ weight.T + base)
    count = rng.poisson(rate)
    inner = rng.standard_normal((s + b, HIDDEN))
    outer = rng.standard_normal((HIDDEN, plan.n_channels)) / 2
    clean = np.tanh(drawn[..., n:] @ inner + rng.standard_normal(HIDDEN) * 0.5) @ outer
    noise = plan.noise_sd * rng.standard_normal(clean.shape)
    order = [*range(n, n + s), *range(n), *range(n + s, n + s + b)]  # drawn neural, shared, own
    loading = np.concatenate([weight, np.zeros((plan.n_units, b))], 1)[:, order]
    return {
        "latent": drawn[..., order], "rate": rate, "count": count, "behavior": clean + noise,
        "clean": clean, "loading": loading,
    }  # fmt: skip


def simulate(plan: Plan, seed: int) -> tuple[Recording, xr.Dataset]:
    """Draw one session of spike times and behaviour, a trial at a time.

    Parameters
    ----------
    plan : Plan
        Sizes.
    seed : int
        Of all draws.

    Returns
    -------
    recording : DataTree
        Nodes `spikes`, `units`, `trials` and ``behavior/joints`` with ``joints (time, channel)`` at
        the centres of the bins. Spikes lie evenly inside their bins, so that binning at
        `bin_width_s` gives the drawn counts back.
    truth : Dataset
        ``latent (time, latent)`` with coord ``kind``, ``rate (time, unit)`` in Hz, ``loading`` and
        ``length_scale``.
    """
    drawn = draw(plan, seed)
    width = plan.bin_width_s
    first = np.arange(plan.n_trials) * (plan.n_bins + plan.gap_bins)
    bins = (first[:, None] + np.arange(plan.n_bins)).ravel()
    count = drawn["count"].reshape(len(bins), -1)
    row, unit = np.nonzero(count)
    number = count[row, unit]
    within = [(np.arange(n) + 0.5) / n for n in number]
    spike_time = (np.repeat(bins[row], number) + np.concatenate([np.empty(0), *within])) * width
    unit_index = np.repeat(unit, number)
    order = np.lexsort([spike_time, unit_index])
    second, one = {"units": "s"}, {"units": "1"}
    time = (bins + 0.5) * width
    nodes = {
        "/": xr.Dataset(
            attrs={
                "dataset": "planted_mm_gpvae",
                "subject": "planted",
                "session": f"planted-{seed}",
                "source": "simulated",
                "sha256": "",
                "history": "[]",
                "schema_version": SCHEMA_VERSION,
            }
        ),
        "/spikes": xr.Dataset(
            {
                "spike_time": ("spike", spike_time[order], second),
                "unit_index": ("spike", unit_index[order].astype(np.int32), one),
            }
        ),
        "/units": xr.Dataset(coords={"unit": ("unit", np.arange(plan.n_units), one)}),
        "/trials": xr.Dataset(
            {
                "start_time": ("trial", first * width, second),
                "stop_time": ("trial", (first + plan.n_bins) * width, second),
            }
        ),
        "/behavior/joints": xr.Dataset(
            {
                "joints": (
                    ("time", "joint"), drawn["behavior"].reshape(len(bins), -1).astype(np.float32),
                    one,
                )
            },
            {"time": ("time", time, second)},
        ),
    }  # fmt: skip
    kind = np.repeat(np.array(KINDS, dtype=object), (plan.n_shared, plan.n_neural, plan.n_behavior))
    flat = {name: drawn[name].reshape(len(bins), -1) for name in ("latent", "rate", "clean")}
    truth = xr.Dataset(
        {
            "latent": (("time", "latent"), flat["latent"], one),
            "rate": (("time", "unit"), flat["rate"] / width, {"units": "Hz"}),
            "behavior": (("time", "channel"), flat["clean"], one),
            "loading": (("unit", "latent"), drawn["loading"], one),
            "length_scale": (
                "latent", np.full(len(kind), plan.length_scale_bins * width), second,
            ),
        },
        {
            "time": ("time", time, second),
            "unit": ("unit", np.arange(plan.n_units), one),
            "kind": ("latent", kind, {"units": ""}),
        },
        {"seed": seed, **plan.model_dump()},
    )  # fmt: skip
    return xr.DataTree.from_dict(nodes), truth
