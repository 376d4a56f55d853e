"""Parameters of Du-IN, with ranges and sources."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from neuropipe.training.settings import Training

REVISION = 2  # raised whenever the same parameters would give other numbers

# The paper's model and schedule; what differs from the defaults. The betas are the paper's, the
# code has (0.9, 0.999).
FAITHFUL: dict[str, Any] = {
    "tokenizer": "linear",
    "initial": "published",
    "warm_epochs": 0,
    "revival": 0.0,
    "label_smoothing": 0.0,
    "crop": "any",
    "units": {
        "epochs": 400, "batch_size": 64, "learning_rate": 3e-4, "betas": (0.9, 0.99),
        "weight_decay": 0.01, "warmup_share": 0.1, "final_share": 1 / 6,
    },
    "masked": {
        "epochs": 400, "batch_size": 64, "learning_rate": 3e-4, "betas": (0.9, 0.99),
        "weight_decay": 0.05, "warmup_share": 0.1, "final_share": 1 / 6,
    },
    "decode": {
        "epochs": 200, "batch_size": 32, "learning_rate": 2e-4, "betas": (0.9, 0.99),
        "weight_decay": 0.05, "warmup_share": 0.1, "final_share": 1 / 40,
    },
}  # fmt: skip


class Stage(Training):
    """Schedule of one stage; whatever is not given is as below."""

    epochs: int = Field(100, ge=1, description="Passes over the training windows or trials.")
    batch_size: int = Field(64, ge=1, description="Windows or trials of one step.")
    learning_rate: float = Field(3e-4, gt=0, description="Largest step size of Adam.")
    weight_decay: float = Field(0.05, ge=0, description="Decoupled decay of matrices.")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of all steps.")
    final_share: float = Field(1 / 6, ge=0, le=1, description="Share of the rate at the end.")
    clip_norm: float | None = Field(1.0, gt=0, description="Longest gradient of all weights.")


class Common(BaseModel):
    """What every variant of Du-IN shares; every field has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["default", "faithful"] = Field(
        "default",
        description="faithful: equations and schedule of the NeurIPS paper; whatever else is given "
        "still counts.",
    )
    labels: str = Field("trial_type", description="Column of node trials that is decoded.")
    trial_s: float | None = Field(
        None, gt=0, description="Length of a trial from its start; none: the shortest one's."
    )
    n_channels: int | None = Field(
        None,
        ge=1,
        description="Contacts to keep: those whose band power tells training trials apart best. "
        "The paper keeps 10; none: all.",
    )
    window_s: float | None = Field(
        None,
        gt=0,
        description="Length of unlabelled windows; none: 4 s (the paper), or a trial's length "
        "where most training stretches are shorter than twice that.",
    )
    patch_s: float = Field(0.1, gt=0, description="What a token stands for.")
    crop: Literal["any", "patch"] = Field(
        "any",
        description="Where unlabelled windows begin: at any sample, or at whole patches from the "
        "start of a stretch.",
    )
    validation_share: float = Field(
        0.1, gt=0, lt=0.5, description="Share of the training data that chooses the best epoch."
    )
    judge_trials: bool = Field(
        True,
        description="Choose the epoch of stage 3 by the trials in that part. False: fit on all "
        "trials and keep the last epoch, for few labels; contacts are then not tested.",
    )
    n_hidden: int = Field(16, ge=1, description="Channels after the contacts are mixed.")
    filters: tuple[int, ...] = Field((128, 128, 16), description="Of the patch convolutions.")
    kernels: tuple[int, ...] = Field((19, 3, 3), description="Their lengths in samples, odd.")
    strides: tuple[int, ...] = Field((10, 1, 1), description="Their steps in samples.")
    tokenizer: Literal["nonlinear", "linear"] = Field(
        "nonlinear",
        description="linear is the published one, which is blind to the power of a band.",
    )
    initial: Literal["scaled", "published"] = Field(
        "scaled", description="First weights at both ends; published: sd 0.02."
    )
    n_layers: int = Field(8, ge=1, description="Transformer layers of the encoder.")
    n_heads: int = Field(8, ge=1)
    head_dim: int = Field(64, ge=1)
    n_inner: int = Field(320, ge=1, description="Width of the feed-forward parts.")
    norm_first: bool = Field(False, description="Normalise before each part; published: after.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Of attention and feed-forward parts.")
    n_codes: int = Field(2048, ge=2, le=2**16)
    code_dim: int = Field(64, ge=2)
    decay: float = Field(0.99, ge=0, lt=1, description="Of the moving average of a code.")
    commitment: float = Field(1.0, ge=0, description="Weight of the tokens' distance to codes.")
    revival: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="A code used less than this share of the mean is placed anew; 0: never.",
    )
    warm_epochs: int = Field(
        20,
        ge=0,
        description="Epochs of stage 1 before tokens are replaced by codes, which k-means then "
        "places. Without any, all tokens fall onto one code.",
    )
    decoder_layers: int = Field(4, ge=0)
    decoder_filters: int = Field(128, ge=1)
    masked_start: Literal["random", "units"] = Field(
        "random",
        description="First weights of stage 2: new ones, as published, or the encoder of stage 1, "
        "which has learned what takes most of the power, useful or not.",
    )
    head_width: int = Field(128, ge=1, description="Hidden layer of the classifier.")
    sigmoid: bool = Field(
        False,
        description="Sigmoid before the softmax, as the authors' code has it; for comparison only.",
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    shift_share: float = Field(
        0.1, ge=0, lt=1, description="Training trials are shifted by up to this share of their "
        "length, zeros come in.",
    )  # fmt: skip
    tune: Literal["all", "head"] = Field(
        "all", description="Weights that stage 3 changes: all (end to end), or the head alone."
    )
    units: Stage = Field(
        Stage.model_validate({"epochs": 80, "weight_decay": 0.01}), description="Stage 1."
    )
    masked: Stage = Field(Stage.model_validate({}), description="Stage 2.")
    decode: Stage = Field(
        Stage.model_validate({"batch_size": 32, "learning_rate": 2e-4, "final_share": 1 / 40}),
        description="Stage 3.",
    )
    n_exchanges: int = Field(
        20, ge=0,
        description="Trials that every other one lends a contact's signal to, to see what it tells "
        "of the class; 0: no test of contacts.",
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        """Fill in what a preset says and the user does not, within a stage too."""
        if not isinstance(given, dict):
            return given
        base = FAITHFUL if given.get("preset") == "faithful" else {}
        out = {**base, **given}
        for name in ("units", "masked", "decode"):
            own = given.get(name)
            if isinstance(own, dict):
                first = base.get(name) or cls.model_fields[name].default.model_dump()
                out[name] = {**first, **own}
        return out

    @model_validator(mode="after")
    def _agree(self) -> Common:
        shapes = {len(self.filters), len(self.kernels), len(self.strides)}
        if len(shapes) > 1 or not self.filters:
            raise ValueError("filters, kernels and strides: expected one number a layer in each")
        if any(k % 2 == 0 or k < 1 for k in self.kernels):
            raise ValueError(f"kernels: found {self.kernels}, expected odd numbers")
        if min(*self.filters, *self.strides) < 1:
            raise ValueError("filters and strides: expected numbers from 1")
        return self


class Config(Common):
    """What a user may set of Du-IN."""

    pretraining: Literal["masked", "points", "units", "quantised", "none"] = Field(
        "masked",
        description="masked: all three stages. points: the same without codes, hidden tokens are "
        "predicted as points. units: stage 1 only. quantised: stage 1, and the codebook stays "
        "before the classifier. none: from scratch.",
    )


class ScratchConfig(Common):
    """What may be set of Du-IN from scratch, without unlabelled data."""

    @property
    def pretraining(self) -> str:
        """Always none."""
        return "none"


class PointsConfig(Common):
    """What may be set of Du-IN without codes."""

    @property
    def pretraining(self) -> str:
        """Always points."""
        return "points"
