"""Parameters of the baselines that stand beside the Neuroformer; no torch, as in `config`.

A baseline takes the model's value of every setting that both have: units, windows, past, signals.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from neuropipe.training.settings import Training

REVISION = 1  # raised whenever the same parameters would give other numbers


class WindowedDecoderConfig(BaseModel):
    """Settings of decoders of behaviour; meanings as of the Neuroformer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_bins: int = Field(5, ge=1, le=1000)
    history_bins: int = Field(15, ge=1, le=10000)
    min_spikes: int = Field(10, ge=1)
    covariates: tuple[str, ...] = ()
    missing_covariates: Literal["refuse", "hide"] = Field(
        "refuse", description="hide: a covariate that is missing stands at its mean."
    )
    targets: tuple[str, ...] = ()
    label_share: float = Field(1.0, gt=0, le=1)
    n_shuffles: int = Field(100, ge=0)


class ReducedRankConfig(WindowedDecoderConfig):
    """Settings of the regression of low rank."""

    ranks: tuple[int, ...] = Field(
        (1, 2, 3), min_length=1, description="Courses over time; of several the best one inside "
        "the training data.",
    )  # fmt: skip


class WindowNetConfig(WindowedDecoderConfig):
    """Settings of the networks."""

    hidden: int = Field(64, ge=1, description="Units of a hidden layer.")
    dropout: float = Field(0.2, ge=0, lt=1)
    validation_share: float = Field(0.1, ge=0, lt=0.9)
    schedule: Training = Field(
        Training.model_validate(
            {"epochs": 15, "batch_size": 64, "learning_rate": 1e-3, "weight_decay": 0.01}
        ),
        description="Of the training; it is not taken over from the Neuroformer.",
    )


class LaggedConfig(BaseModel):
    """Settings of the lagged correlation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_spikes: int = Field(10, ge=1)
    lag_bins: int = Field(1, ge=1, description="Bins from the source's spikes to the unit's.")
    n_shuffles: int = Field(
        100, ge=0, description="Circular shifts of every unit by a time of its own."
    )
