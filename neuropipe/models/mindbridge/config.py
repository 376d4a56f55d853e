"""Parameters of MindBridge, with ranges and sources."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from neuropipe.training.settings import Training

REVISION = 1  # raised whenever the same parameters would give other numbers

SCHEDULE: dict[str, Any] = {
    "epochs": 60,
    "batch_size": 50,
    "learning_rate": 3e-4,
    "weight_decay": 0.01,
    "final_share": 1.0,
    "patience": 8,
}
# Sizes, losses and schedule as published; a batch is that of one GPU, and so is its step size.
FAITHFUL: dict[str, Any] = {
    "aggregation": "max",
    "common_size": 8192,
    "start": ("random",),
    "hidden": 2048,
    "adapter": 128,
    "n_blocks": 4,
    "embedder_dropout": 0.5,
    "block_dropout": 0.15,
    "temperature": 0.005,
    "center": False,
    "mse_weight": 1e4,
    "reconstruction_weight": 1.0,
    "cycle_weight": 1.0,
    "cycle_pairs": "one",
    "pseudo_weight": 0.0,
    "validation_share": 0.0,
    "training": {
        "epochs": 600,
        "batch_size": 50,
        "learning_rate": 1.5e-4,
        "weight_decay": 0.01,
        "warmup_share": 2 / 600,
        "final_share": 4e-4,
        "clip_norm": 1.0,
    },
    "adaptation": {
        "epochs": 200,
        "batch_size": 50,
        "learning_rate": 1.5e-4,
        "weight_decay": 0.01,
        "warmup_share": 2 / 200,
        "final_share": 4e-4,
        "clip_norm": 1.0,
    },
}


class Config(BaseModel):
    """What a user may set of MindBridge; every field has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["default", "faithful"] = Field(
        "default",
        description="faithful: architecture, losses and schedule of the CVPR 2024 paper; whatever "
        "else is given overrules it.",
    )
    mode: Literal["bridge", "single", "naive"] = Field(
        "bridge",
        description="bridge: own embedders, a shared translator; single: a network for each "
        "subject alone; naive: one network for all without parts of their own.",
    )
    column: str = Field("stimulus", description="Column of node betas: what a trial showed.")
    image: str = Field("embedding", description="Node of the image features.")
    text: str = Field(
        "auto", description="Node of the text features, none, or auto: where all recordings have it"
    )
    missing: Literal["refuse", "drop"] = Field(
        "refuse", description="What a voxel does that is NaN or constant in training."
    )
    n_voxels: int | None = Field(
        None, ge=1, description="Voxels a subject, those that the features predict best; none: all."
    )
    shared_stimuli: Literal["refuse", "allow"] = Field(
        "refuse", description="A held-out trial whose stimulus was in training."
    )
    samples: Literal["stimulus", "trial"] = Field(
        "stimulus",
        description="What is learned from: the mean of a stimulus' trials, or each trial, where "
        "stimuli are classes that recur.",
    )
    average_repeats: bool = Field(
        True, description="Average the held-out trials of a stimulus before they are decoded."
    )
    pool_size: int = Field(
        50, ge=2, description="Images that retrieval chooses among (982 in the paper's test set)."
    )
    aggregation: Literal["linear", "max", "average", "resize"] = Field(
        "linear",
        description="Brains to one size: a linear map of each subject, or pooling of neighbours "
        "in the order of the voxels (max: the paper).",
    )
    common_size: int = Field(
        192, ge=1, description="Entries of the common code, or bins of a pooled pattern (8192)."
    )
    start: tuple[Literal["ridge", "inversion", "random"], ...] = Field(
        ("ridge", "inversion"),
        description="Closed forms that a linear aggregation starts from; of several the best on "
        "held-out stimuli of the training data, for each subject.",
    )
    hidden: int = Field(256, ge=1, description="Width of the network (2048).")
    adapter: int = Field(32, ge=1, description="Inner width of the adapters (128).")
    n_blocks: int = Field(2, ge=0, description="Blocks of the translator (4).")
    embedder_dropout: float = Field(0.5, ge=0, lt=1)
    block_dropout: float = Field(0.15, ge=0, lt=1)
    head_rank: int | None = Field(
        None, ge=1, description="Rank of the heads; none: full, as in the paper."
    )
    center: bool = Field(
        True,
        description="Subtract the training mean from embeddings of length 1 and make them so "
        "again, since what all images share tells none apart.",
    )
    temperature: float = Field(0.2, gt=0, description="Of SoftCLIP (0.005 for raw cosines).")
    clip_weight: float = Field(1.0, ge=0, description="Of SoftCLIP, each head (1).")
    mse_weight: float = Field(0.0, ge=0, description="Of the MSE of unit vectors (1e4).")
    reconstruction_weight: float = Field(0.05, ge=0, description="Of x against B(E(x)) (1).")
    cycle_weight: float = Field(0.05, ge=0, description="Of E_a(x) against E_b(B_b(E_a(x))) (1).")
    cycle_pairs: Literal["one", "both"] = Field(
        "both", description="One random ordered pair of subjects a step (the paper), or both ways."
    )
    synthetic_weight: float = Field(
        0.0, ge=0, description="Pretraining: of embeddings from synthesised patterns (0)."
    )
    pseudo_weight: float = Field(
        0.5, ge=0, description="Adaptation: of embeddings from synthesised patterns (0)."
    )
    mixco_share: float = Field(
        0.0, ge=0, le=1, description="Share of epochs, the first ones, with MixCo (MindEye: 1/3)."
    )
    mixco_beta: float = Field(0.15, gt=0, description="Of its Beta distribution (MindEye).")
    repeats: Literal["random", "average"] = Field(
        "random", description="Of a stimulus' trials a random one a step, or always their mean."
    )
    training: Training = Field(
        default_factory=lambda: Training(**SCHEDULE),
        description="Schedule of the pretraining; a batch is so many stimuli of every subject.",
    )
    adaptation: Training = Field(
        default_factory=lambda: Training(**SCHEDULE),
        description="Schedule of the adaptation to a new subject.",
    )
    validation_share: float = Field(
        0.2, ge=0, le=0.5,
        description="Share of training stimuli that tell how many epochs help, none included; the "
        "network is then trained so long on all of them. 0: all epochs.",
    )  # fmt: skip
    adaptation_trials: tuple[int, ...] = Field(
        (),
        description="Stimuli of a new subject: inside the training data the last subject is left "
        "out, adapted to with so many stimuli, and compared with training from scratch and ridge.",
    )
    pictures: str = Field(
        "stimulus/pictures",
        description="Node of the pictures by stimulus, for scores of pictures that are retrieved.",
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = FAITHFUL if given.get("preset") == "faithful" else {}
        merged = {**preset, **given}
        for name in ("training", "adaptation"):
            if isinstance(given.get(name, {}), dict):  # what is not said of a schedule stays
                merged[name] = {**preset.get(name, SCHEDULE), **given.get(name, {})}
        return merged

    @model_validator(mode="after")
    def _agree(self) -> Config:
        if self.mode == "naive" and self.aggregation == "linear":
            raise ValueError(
                "mode naive has no part of a subject's own, which aggregation linear is; take "
                "average, max or resize"
            )
        if not self.start or ("random" in self.start and len(self.start) > 1):
            raise ValueError(
                f"start: found {list(self.start)}, expected ridge, inversion or both, or random"
            )
        if len(set(self.adaptation_trials)) < len(self.adaptation_trials) or any(
            n < 4 for n in self.adaptation_trials
        ):
            raise ValueError("adaptation_trials: expected different numbers from 4 on")
        if self.clip_weight == 0 and self.mse_weight == 0:
            raise ValueError("clip_weight and mse_weight are 0, so nothing would be learned")
        return self
