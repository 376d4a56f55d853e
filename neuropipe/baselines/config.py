"""Parameters of the baselines; read while the job graph is built, so nothing slow is imported.

A baseline takes the model's value of every setting that both have.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from neuropipe.training.settings import Training

REVISION = 3  # raised whenever the same parameters would give other numbers


class RateConfig(BaseModel):
    """Settings of the homogeneous rate, and which bins all models of counts explain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    covariates: tuple[str, ...] = ()
    missing_covariates: Literal["refuse", "mask", "hide"] = Field(
        "refuse",
        description="mask: bins without a covariate are left out, as the model leaves them out; "
        "hide: they count, with the covariate's mean.",
    )
    min_spikes: int = Field(10, ge=1, description="Units with fewer training spikes are left out.")

    @property
    def gaps(self) -> tuple[str, ...]:
        """Covariates whose missing bins are left out, of a model that looks at none."""
        return self.covariates if self.missing_covariates == "mask" else ()


class GLMConfig(RateConfig):
    """Settings of the Poisson regressions."""

    basis: Literal["exponential", "raised_cosine", "lags"] = "exponential"
    history_bins: int = Field(5, ge=0)
    n_basis: int = Field(1, ge=1)
    decay_per_bin: float = Field(1.0, gt=0)
    weight_sd: float | None = Field(
        None, gt=0, description="Sd of a Gaussian prior on every weight; none: the baseline's own."
    )


class HMMConfig(RateConfig):
    """Settings of the plain HMM."""

    n_states: int | tuple[int, ...] = Field(
        3, description="Hidden states; of several numbers the largest is taken."
    )
    pseudo_count: float = Field(1.0, gt=0)
    n_restarts: int = Field(6, ge=1)
    max_iterations: int = Field(200, ge=1)
    tolerance: float = Field(1e-5, gt=0, description="nats/bin")


class TraceConfig(BaseModel):
    """Settings of the baselines that stand beside the NTF connectome; meanings as there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    observations: str = "auto"
    response: str | None = None
    missing: Literal["refuse", "drop"] = "refuse"
    min_spikes: int = Field(10, ge=1)
    clock: Literal["shared", "own"] = "shared"
    window_s: float | None = Field(None, gt=0)
    smoothing_windows: float = Field(2.0, gt=0, le=100)
    affinity: Literal["geo", "prod", "min", "minpos"] = "geo"


class CPConfig(TraceConfig):
    """Settings of the plain CP."""

    rank: int | tuple[int, ...] = Field(8, description="Components; of several the largest.")
    max_sweeps: int = Field(300, ge=1)
    tolerance: float = Field(1e-6, ge=0, description="Fall of the relative error a sweep.")


class CorrelationConfig(TraceConfig):
    """Settings of the static correlation; nothing further."""


class WindowedConfig(TraceConfig):
    """Settings of windowed correlation with k-means."""

    rank: int | tuple[int, ...] = Field(8, description="States; of several the largest.")
    correlation_windows: int = Field(21, ge=3, description="Length of the sliding window.")
    n_restarts: int = Field(5, ge=1)


class PairedConfig(BaseModel):
    """Settings of the baselines that stand beside the MM-GPVAE; meanings as there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    observations: str = "counts"
    signals: tuple[str, ...] | Literal["all"] = "all"
    min_spikes: int = Field(10, ge=1)
    behavior_degree: Literal[1, 2] = Field(
        2, description="At most; 2: neural activity follows from channels and their products."
    )


class FactorsConfig(PairedConfig):
    """Settings of factor analysis of smoothed counts."""

    n_latents: int | tuple[int, ...] = Field(
        (1, 2, 3, 4, 6, 8, 12), description="Factors; of several the best inside the training data."
    )
    smoothing_bins: float | tuple[float, ...] = Field(
        (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0),
        description="Sd of the Gaussian filter; of several the best inside the training data.",
    )


class PCAConfig(FactorsConfig):
    """Settings of regression on principal components."""

    behavior_degree: Literal[1, 2] = 1


class GPFAConfig(PairedConfig):
    """Settings of elephant's Gaussian-process factor analysis."""

    n_latents: int | tuple[int, ...] = Field(
        (2, 4, 8), description="Latents; of several the best inside the training data."
    )
    max_iterations: int = Field(
        100, ge=1, description="Of EM; elephant's 500 change little (0.01 of R2)."
    )
    choice_iterations: int = Field(20, ge=1, description="Of EM, where numbers are compared.")
    tolerance: float = Field(1e-8, gt=0, description="Of the log-likelihood, as elephant's.")
    length_scale_s: float = Field(0.1, gt=0, description="Start of every latent's, elephant's.")
    min_noise_share: float = Field(
        0.01, gt=0, lt=1, description="Least private share of a unit's variance, elephant's."
    )
    segment_bins: int = Field(
        50, ge=2, description="Windows are cut to pieces of at most these for EM; elephant: 20."
    )


class DecoderConfig(BaseModel):
    """Settings of the decoders of trials that stand beside Du-IN; meanings as there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: str = "trial_type"
    trial_s: float | None = Field(None, gt=0)
    n_channels: int | None = Field(None, ge=1)
    patch_s: float = Field(0.1, gt=0, description="Trials are cut to whole multiples of it.")


class BandPowerConfig(DecoderConfig):
    """Settings of the linear decoders on band power."""

    bands: tuple[tuple[float, float], ...] = Field(
        ((4.0, 12.0), (12.0, 30.0), (30.0, 70.0), (70.0, 150.0)), description="Edges, Hz."
    )
    bin_s: float = Field(0.1, gt=0, description="Bins that power is averaged in.")
    ridge: float = Field(
        30.0, gt=0, description="Logistic regression: weight of the squared weights."
    )


class NetConfig(DecoderConfig):
    """Settings of the convolutional networks."""

    validation_share: float = Field(0.1, gt=0, lt=0.5)
    shift_share: float = Field(0.1, ge=0, lt=1)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    training: Training = Field(
        Training.model_validate(
            {"epochs": 100, "batch_size": 32, "learning_rate": 1e-3, "weight_decay": 0.01}
        ),
        description="Schedule of the networks; it is not taken over from Du-IN.",
    )


class EmbeddingConfig(BaseModel):
    """Settings of the decoders that stand beside MindBridge; meanings as there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str = "stimulus"
    image: str = "embedding"
    text: str = "auto"
    missing: Literal["refuse", "drop"] = "refuse"
    n_voxels: int | None = Field(None, ge=1)
    shared_stimuli: Literal["refuse", "allow"] = "refuse"
    samples: Literal["stimulus", "trial"] = Field(
        "stimulus", description="Learn from the mean of a stimulus' trials, or from each trial."
    )
    average_repeats: bool = True
    pool_size: int = Field(50, ge=2)


class RidgeConfig(EmbeddingConfig):
    """Settings of ridge regression."""

    alphas: tuple[float, ...] = Field(
        (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
        min_length=1,
        description="Penalties, times the number of inputs; of several the best by leave-one-out.",
    )


class SharedConfig(RidgeConfig):
    """Settings of the shared response model and of hyperalignment."""

    features: int = Field(30, ge=1, description="Shared features, fewer with few shared stimuli.")
    rounds: int = Field(10, ge=1, description="Alternations between maps and what is shared.")
