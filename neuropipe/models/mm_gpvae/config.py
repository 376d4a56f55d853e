"""Parameters of the MM-GPVAE, with ranges and sources."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from neuropipe.training.settings import Training

REVISION = 8  # raised whenever the same parameters would give other numbers

Family = Literal["gaussian", "poisson", "negative_binomial"]

# The paper's model and schedule for counts with raw 8-bit images; what differs from the defaults.
FAITHFUL: dict[str, Any] = {
    "posterior": "dense",
    "fusion": "average",
    "behavior_scaling": "none",
    "behavior_noise": "common",
    "behavior_noise_sd": 10.0,
    "behavior_weight": 1.0,
    "behavior_hidden": (784, 512, 256, 256),
    "scales": "raw",
    "shared_length_scale": True,
    "length_scale_bins": 30.0,
    "min_length_scale_bins": 10.0,
    "pruning": 1e8,
    "circle": 1.2,
    "jitter": 1e-2,
    "refine": "missing",
    "calibrate": False,
    "neural_start": "random",
    "align_share": 0.0,
    "training": {
        "epochs": 700, "batch_size": 20, "learning_rate": 8.8e-3, "final_share": 1.0,
        "clip_norm": 1.0,
    },
    "behavior_rate_scale": 1.6e-4 / 8.8e-3,
    "encoder_rate_scale": 7.72e-4 / 8.8e-3,
}  # fmt: skip


# A few huge gradients of the first epochs, of rates that are still far off, left Adam where it did
# not recover: one of three fits of 100 trials ended 5 nats a bin short of the others.
SCHEDULE: dict[str, Any] = {
    "epochs": 60, "batch_size": 20, "learning_rate": 2e-2, "warmup_share": 0.05, "clip_norm": 10.0,
}  # fmt: skip


class Config(BaseModel):
    """What a user may set of an MM-GPVAE; every field has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["default", "faithful"] = Field(
        "default",
        description="faithful: equations, sizes and schedule of the ICLR paper; whatever else is "
        "given still counts.",
    )
    modalities: Literal["both", "neural", "behavior"] = Field(
        "both", description="One alone is a GP-VAE; with linear Gaussian parts, much like GPFA."
    )
    n_shared: int = Field(1, ge=0, le=64, description="Latents of both modalities.")
    n_neural: int = Field(1, ge=0, le=64, description="Latents of neural activity alone.")
    n_behavior: int = Field(1, ge=0, le=64, description="Latents of behaviour alone.")
    try_latents: tuple[tuple[int, int, int], ...] = Field(
        (),
        description="Numbers of shared, neural and behaviour latents to choose from by held-out "
        "evidence inside the training data.",
    )
    observations: str = Field(
        "counts", description="Node of neural activity: counts, or traces such as calcium/cells."
    )
    signals: tuple[str, ...] | Literal["all"] = Field(
        "all", description="Variables of node behavior; all, where there are any."
    )
    min_spikes: int = Field(
        10, ge=1, description="counts: a unit with fewer in the training data is left out."
    )
    image_shape: tuple[int, int] | None = Field(
        None, description="Rows and columns of a frame, where behaviour is video."
    )
    neural_likelihood: Family | Literal["auto"] = Field(
        "auto", description="auto: poisson for counts, gaussian for traces."
    )
    behavior_likelihood: Family = "gaussian"
    neural_decoder: Literal["linear", "mlp"] = Field(
        "linear", description="From latents to log rates (traces: to traces)."
    )
    behavior_decoder: Literal["linear", "mlp", "conv"] = "mlp"
    neural_encoder: Literal["linear", "mlp"] = "mlp"
    behavior_encoder: Literal["linear", "mlp", "conv"] = "mlp"
    neural_hidden: tuple[int, ...] = Field(
        (80, 40, 20), description="Widths of hidden layers, from the data to the latents."
    )
    behavior_hidden: tuple[int, ...] = (64, 64)
    posterior: Literal["sites", "dense"] = Field(
        "sites",
        description="sites: each bin is evidence of its own weight, so trials may have any length "
        "and lack bins; dense: the paper's learned map over time, for complete trials of one "
        "length.",
    )
    fusion: Literal["product", "average"] = Field(
        "product", description="Of what both modalities say of shared latents; average: paper."
    )
    behavior_scaling: Literal["auto", "channel", "common", "none"] = Field(
        "auto",
        description="channel: mean 0 and sd 1 each; common: one sd for all; auto: common for "
        "images, else channel. Fitted on training windows.",
    )
    behavior_noise: Literal["channel", "common"] = Field(
        "channel", description="One noise variance a channel, or one for all (paper)."
    )
    noise_rank: int = Field(
        0, ge=0, le=64, description="Rank of correlated noise of behaviour, beside each channel's."
    )
    behavior_noise_sd: float = Field(
        0.7, gt=0, description="Start of the noise, in units of the scaled behaviour."
    )
    behavior_weight: float | Literal["effective"] = Field(
        "effective",
        description="Weight of behaviour's likelihood. effective: independent directions of the "
        "noise of training behaviour over its channels, so that channels with common noise do not "
        "count as independent evidence; 1 where noise_rank is set.",
    )
    length_scale_bins: float | Literal["auto"] = Field(
        "auto", description="Start of the length scales; auto: from autocorrelations."
    )
    min_length_scale_bins: float | None = Field(
        None, gt=0,
        description="Shortest length scale that pruned coefficients can show; none: 0.4 of "
        "the shortest start, at least 1.",
    )  # fmt: skip
    pruning: float = Field(
        1e4, gt=1, description="Coefficients with less than this share of the largest go."
    )
    circle: float | Literal["auto"] = Field(
        "auto",
        description="Length of the circle that time is laid on, in windows; auto: four starting "
        "length scales beyond the window, so that its ends do not touch.",
    )
    jitter: float = Field(0.0, ge=0, description="Added to the prior variance of coefficients.")
    shared_length_scale: bool = Field(
        False, description="One length scale for all latents, as the authors' code has it."
    )
    scales: Literal["log", "raw"] = Field(
        "log",
        description="How length scales and noise are learned; raw: as the authors do, so slowly "
        "that they stay where they start.",
    )
    max_bins: int = Field(
        256, ge=8, description="Longer windows are trained on, and inferred, in pieces of these."
    )
    refine: Literal["always", "missing"] = Field(
        "always",
        description="When the encoder's posterior is improved by Newton steps at transform and "
        "score: missing, only where units, bins or a modality are missing (published: never).",
    )
    calibrate: bool = Field(
        True,
        description="score: correct what is told of units, or a modality, that are left out by a "
        "line a channel, fitted where the same is left out of training windows; paper: not.",
    )
    refine_steps: int = Field(8, ge=1, description="Most Newton steps.")
    neural_start: Literal["factors", "random"] = Field(
        "factors",
        description="Of a linear neural decoder and its encoder: factors of the smoothed training "
        "data, or random weights (paper).",
    )
    align_share: float = Field(
        0.2, ge=0, lt=1,
        description="Of the epochs, in which neural activity is learned alone first, so that those "
        "of its latents that behaviour follows can be made the shared ones; 0: not at all (paper).",
    )  # fmt: skip
    n_restarts: int = Field(
        1, ge=1, description="Random starts, compared by the bound after a share of the epochs."
    )
    screen_share: float = Field(
        0.12, gt=0, lt=1, description="Of the epochs, that starts are compared after."
    )
    validation_share: float = Field(
        0.0, ge=0, lt=0.6,
        description="Share of training windows that chooses the best epoch; needed by patience.",
    )  # fmt: skip
    behavior_rate_scale: float = Field(
        0.25, gt=0, description="Learning rate of behaviour's networks, relative to the others."
    )
    encoder_rate_scale: float = Field(1.0, gt=0, description="Same, of the neural encoder.")
    training: Training = Field(
        default_factory=lambda: Training.model_validate(SCHEDULE),
        description="Epochs, batch size, learning rate...",
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = FAITHFUL if given.get("preset") == "faithful" else {"training": SCHEDULE}
        merged = {**preset, **given}
        if isinstance(given.get("training"), dict):  # what is not said of a schedule stays
            merged["training"] = {**preset["training"], **given["training"]}
        return merged

    @model_validator(mode="after")
    def _agree(self) -> Config:
        for numbers in self.candidates:
            if sum(numbers) == 0 or min(numbers) < 0:
                raise ValueError(
                    f"n_shared, n_neural, n_behavior: found {numbers}, expected a latent"
                )
        if self.modalities != "both" and (self.n_shared or self.try_latents):
            raise ValueError(
                "n_shared: one modality shares nothing, so say n_shared: 0 and leave try_latents"
            )
        conv = "conv" in (self.behavior_decoder, self.behavior_encoder)
        if conv and self.image_shape is None:
            raise ValueError("image_shape: conv needs the rows and columns of a frame")
        if self.noise_rank and self.behavior_likelihood != "gaussian":
            raise ValueError("noise_rank: correlated noise needs behavior_likelihood gaussian")
        if self.posterior == "dense" and self.jitter == 0:
            raise ValueError("jitter: the dense posterior needs some, the paper has 1e-2")
        if self.training.patience is not None and self.validation_share == 0:
            raise ValueError("training.patience: needs validation_share above 0")
        if self.circle != "auto" and self.circle < 1:
            raise ValueError(f"circle: found {self.circle}, expected at least 1 window")
        return self

    @property
    def candidates(self) -> tuple[tuple[int, int, int], ...]:
        """Numbers of latents to try: shared, neural, behaviour."""
        return self.try_latents or ((self.n_shared, self.n_neural, self.n_behavior),)
