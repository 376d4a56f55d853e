"""The models, one line each, and the protocol that all of them and all baselines follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from neuropipe import registry

if TYPE_CHECKING:  # read while the job graph is built, so nothing slow is imported
    import xarray as xr

    from neuropipe.schema import Recording, Var

MODELS = {
    "du_in": "neuropipe.models.du_in.estimator:DuIN",
    "hmm_glm": "neuropipe.models.hmm_glm.estimator:HMMGLM",
    "mindbridge": "neuropipe.models.mindbridge.estimator:MindBridge",
    "mm_gpvae": "neuropipe.models.mm_gpvae.estimator:MMGPVAE",
    "neuroformer": "neuropipe.models.neuroformer.estimator:Neuroformer",
    "ntf_connectome": "neuropipe.models.ntf_connectome.estimator:NTFConnectome",
}
# A model's planted sessions may come before the model itself.
SIMULATORS = {
    "du_in": "neuropipe.models.du_in.simulate",
    "hmm_glm": "neuropipe.models.hmm_glm.simulate",
    "mindbridge": "neuropipe.models.mindbridge.simulate",
    "mm_gpvae": "neuropipe.models.mm_gpvae.simulate",
    "neuroformer": "neuropipe.models.neuroformer.simulate",
    "ntf_connectome": "neuropipe.models.ntf_connectome.simulate",
}


@runtime_checkable
class Estimator(Protocol):
    """What the command line asks of a model or a baseline.

    ``reads`` names the nodes it needs, ``writes`` the variables of `transform`, ``learns`` those
    of ``parameters_``; ``config`` is a frozen pydantic model.
    """

    reads: ClassVar[tuple[str, ...]]
    writes: ClassVar[Mapping[str, Var]]
    learns: ClassVar[Mapping[str, Var]]
    config: Any
    parameters_: xr.Dataset
    history_: xr.Dataset

    def fit(
        self,
        recordings: Sequence[Recording],
        *,
        seed: int,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> Self:
        """Learn from the recordings' windows."""

    def transform(self, recording: Recording) -> xr.Dataset:
        """Return estimates, named by ``writes``."""

    def score(self, recording: Recording) -> dict[str, float]:
        """Return scores, named and with units in `metrics.UNITS`."""

    def save(self, path: Path) -> None:
        """Write the fitted estimator into a folder."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back."""


def resolve(name: str, names: Mapping[str, str] = MODELS) -> Any:
    """Return the class of a model, or of whatever `names` registers."""
    return registry.resolve(name, names, "models: name")
