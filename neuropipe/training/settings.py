"""How long and how fast a network is trained; read while the job graph is built, so no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Training(BaseModel):
    """The schedule of one stage of gradient training: Adam with a warm-up and a cosine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(ge=1, description="Passes over the training data.")
    batch_size: int = Field(ge=1, description="Samples of one step.")
    accumulate: int = Field(
        1, ge=1, description="Batches whose gradients are averaged for one step, to save memory."
    )
    learning_rate: float = Field(gt=0, description="Largest step size of Adam.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Decay of Adam's moments.")
    weight_decay: float = Field(
        0.0, ge=0, description="Decoupled decay of matrices; vectors and biases are never decayed."
    )
    warmup_share: float = Field(
        0.0, ge=0, lt=1, description="Share of all steps in which the rate rises linearly."
    )
    final_share: float = Field(
        0.0, ge=0, le=1, description="Share of the rate that the cosine ends at; 1: constant."
    )
    clip_norm: float | None = Field(None, gt=0, description="Longest gradient of all weights.")
    patience: int | None = Field(
        None, ge=1, description="Validations in a row without a better one, then training stops."
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        description="Of products inside the network; weights and sums stay as they are. tf32: of "
        "10 bits, on NVIDIA cards, several times as fast; elsewhere float32.",
    )
