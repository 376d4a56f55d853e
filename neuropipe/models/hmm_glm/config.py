"""Parameters of the HMM-GLM, with ranges and sources."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

REVISION = 2  # raised whenever the same parameters would give other numbers


class Config(BaseModel):
    """What a user may set of an HMM-GLM; every field has a default but the number of states."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_states: int | tuple[int, ...] = Field(
        3,
        description="Number of hidden states; several numbers are compared by held-out likelihood "
        "inside the training data and the best one is kept.",
    )
    observations: str = Field(
        "counts",
        description="Node that the emissions come from: counts, calcium/<series>, or trials (one "
        "observation a trial, sessions as sequences).",
    )
    response: str | None = Field(
        None, description="Variable of that node, where it has several; for trials the column."
    )
    covariates: tuple[str, ...] = Field(
        (), description="Variables of node behavior (or columns of trials) that enter the GLM."
    )
    missing_covariates: Literal["refuse", "mask"] = Field(
        "refuse",
        description="What a NaN in a covariate does: refuse stops with its name, mask treats the "
        "bin as unobserved.",
    )
    family: Literal["poisson", "bernoulli", "gaussian"] = "poisson"
    link: Literal["softplus", "sigmoid", "exp"] = Field(
        "softplus",
        description="Poisson mean per bin; sigmoid (at most one spike a bin) is the paper's.",
    )
    prior: Literal["one_hot", "gaussian", "none"] = Field(
        "one_hot", description="Prior of the weights; one_hot is the empirical-Bayes form."
    )
    preset: Literal["default", "faithful_2024", "faithful_2025"] = Field(
        "default",
        description="faithful_2024: objective and schedule of the ICLR paper; faithful_2025: of "
        "the authors' rewrite 0.1.0.",
    )
    prior_sd: float = Field(1 / 3, gt=0, description="Sd of W_s around its mean over states.")
    ridge_sd: float = Field(5.0, gt=0, description="Sd of every weight around zero.")
    share_bias: bool = Field(
        False, description="One baseline a unit (the paper), or one a unit and state."
    )
    basis: Literal["exponential", "raised_cosine", "lags"] = "exponential"
    history_bins: int = Field(5, ge=0, description="Length of the spike history; 0 for none.")
    n_basis: int = Field(1, ge=1, description="Basis functions of the history.")
    decay_per_bin: float = Field(1.0, gt=0, description="Decay of the exponential basis.")
    min_spikes: int = Field(
        10, ge=1, description="A unit with fewer spikes in the training data is left out."
    )
    stay: float = Field(0.98, gt=0, lt=1, description="First guess of the chance to stay.")
    pseudo_count: float = Field(
        1.0, gt=0, description="Added to every expected transition and first state (Dirichlet)."
    )
    n_restarts: int = Field(
        6, ge=1, description="Starts, screened together: one by rates, others random."
    )
    screen_bins: int = Field(8000, ge=100, description="Bins that the screening uses at most.")
    screen_iterations: int = Field(25, ge=1)
    max_iterations: int = Field(200, ge=1)
    tolerance: float = Field(
        1e-5, gt=0, description="Rise of the objective, nats/bin, below which EM has converged."
    )
    selection_folds: int = Field(
        3, ge=2, description="Inner folds that choose the number of states."
    )
    learning_rate: float | None = Field(None, gt=0, description="faithful presets; authors' value.")
    n_epochs: int | None = Field(None, ge=1, description="faithful presets; authors' value.")

    @model_validator(mode="after")
    def _agree(self) -> Config:
        numbers = (self.n_states,) if isinstance(self.n_states, int) else self.n_states
        if not numbers or min(numbers) < 1 or max(numbers) > 32:
            raise ValueError(f"n_states: found {self.n_states}, expected numbers from 1 to 32")
        if self.family == "bernoulli" and self.link != "sigmoid":
            raise ValueError("link: family bernoulli needs link sigmoid")
        one_basis = self.n_basis == 1 and self.basis != "lags"
        if self.prior == "one_hot" and self.preset == "default" and not one_basis:
            raise ValueError(
                "prior: one_hot judges one weight an edge, so it needs n_basis 1 and a basis other "
                f"than lags; found basis {self.basis}, n_basis {self.n_basis}; say prior: gaussian"
            )
        if self.prior == "one_hot" and (self.history_bins == 0 or self.observations == "trials"):
            raise ValueError("prior: one_hot needs a spike history; say prior: gaussian or none")
        if self.basis == "lags" and self.n_basis not in (1, self.history_bins):
            raise ValueError("n_basis: basis lags has as many functions as history_bins")
        return self
