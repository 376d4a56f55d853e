"""Figures of a run: a file holds one `plot(results) -> Figure`, whose docstring is the caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neuropipe import registry

FIGURES: dict[str, str] = {
    "state_timeline": "neuropipe.figures.state_timeline:plot",
    "interaction_matrices": "neuropipe.figures.interaction_matrices:plot",
    "onehot_graph": "neuropipe.figures.onehot_graph:plot",
    "history_filters": "neuropipe.figures.history_filters:plot",
    "convergence": "neuropipe.figures.convergence:plot",
    "score_comparison": "neuropipe.figures.score_comparison:plot",
    "state_properties": "neuropipe.figures.state_properties:plot",
    "state_number": "neuropipe.figures.state_number:plot",
    "recording_overview": "neuropipe.figures.recording_overview:plot",
    "component_activations": "neuropipe.figures.component_activations:plot",
    "animal_loadings": "neuropipe.figures.animal_loadings:plot",
    "motif_graphs": "neuropipe.figures.motif_graphs:plot",
    "community_matrices": "neuropipe.figures.community_matrices:plot",
    "rank_choice": "neuropipe.figures.rank_choice:plot",
    "restart_stability": "neuropipe.figures.restart_stability:plot",
    "latent_traces": "neuropipe.figures.latent_traces:plot",
    "variance_partition": "neuropipe.figures.variance_partition:plot",
    "length_scales": "neuropipe.figures.length_scales:plot",
    "behavior_reconstruction": "neuropipe.figures.behavior_reconstruction:plot",
    "held_out_rates": "neuropipe.figures.held_out_rates:plot",
    "code_usage": "neuropipe.figures.code_usage:plot",
    "code_sequences": "neuropipe.figures.code_sequences:plot",
    "reconstruction": "neuropipe.figures.reconstruction:plot",
    "learning_curves": "neuropipe.figures.learning_curves:plot",
    "class_confusion": "neuropipe.figures.class_confusion:plot",
    "contact_contributions": "neuropipe.figures.contact_contributions:plot",
    "spike_rasters": "neuropipe.figures.spike_rasters:plot",
    "count_calibration": "neuropipe.figures.count_calibration:plot",
    "decoding_traces": "neuropipe.figures.decoding_traces:plot",
    "driver_matrices": "neuropipe.figures.driver_matrices:plot",
    "few_shot_curves": "neuropipe.figures.few_shot_curves:plot",
    "retrieval_curves": "neuropipe.figures.retrieval_curves:plot",
    "identification_by_subject": "neuropipe.figures.identification_by_subject:plot",
    "embedding_similarity": "neuropipe.figures.embedding_similarity:plot",
    "retrieved_pictures": "neuropipe.figures.retrieved_pictures:plot",
    "brain_cycles": "neuropipe.figures.brain_cycles:plot",
    "adaptation_curve": "neuropipe.figures.adaptation_curve:plot",
    "voxel_importance": "neuropipe.figures.voxel_importance:plot",
}
# What suits these models only; whatever is not named here suits every model.
MODELS: dict[str, tuple[str, ...]] = {
    "state_timeline": ("hmm_glm",),
    "interaction_matrices": ("hmm_glm",),
    "onehot_graph": ("hmm_glm",),
    "history_filters": ("hmm_glm",),
    "state_properties": ("hmm_glm",),
    "state_number": ("hmm_glm",),
    "component_activations": ("ntf_connectome",),
    "animal_loadings": ("ntf_connectome",),
    "motif_graphs": ("ntf_connectome",),
    "community_matrices": ("ntf_connectome",),
    "rank_choice": ("ntf_connectome",),
    "restart_stability": ("ntf_connectome",),
    "latent_traces": ("mm_gpvae",),
    "variance_partition": ("mm_gpvae",),
    "length_scales": ("mm_gpvae",),
    "behavior_reconstruction": ("mm_gpvae",),
    "held_out_rates": ("mm_gpvae",),
    "code_usage": ("du_in",),
    "code_sequences": ("du_in",),
    "reconstruction": ("du_in",),
    "learning_curves": ("du_in",),
    "class_confusion": ("du_in",),
    "contact_contributions": ("du_in",),
    "spike_rasters": ("neuroformer",),
    "count_calibration": ("neuroformer",),
    "decoding_traces": ("neuroformer",),
    "driver_matrices": ("neuroformer",),
    "few_shot_curves": ("neuroformer",),
    "retrieval_curves": ("mindbridge",),
    "identification_by_subject": ("mindbridge",),
    "embedding_similarity": ("mindbridge",),
    "retrieved_pictures": ("mindbridge",),
    "brain_cycles": ("mindbridge",),
    "adaptation_curve": ("mindbridge",),
    "voxel_importance": ("mindbridge",),
}


def resolve(name: str) -> Callable:
    """Return the `plot(results) -> Figure` of a figure; an unknown name lists the known."""
    return registry.resolve(name, FIGURES, "figure")


def caption(name: str) -> str:
    """Return the first paragraph of a figure's docstring, without importing it."""
    return registry.caption(name, FIGURES, "figure")


def suiting(model: str, asked: Sequence[str] = "all") -> list[str]:
    """Return the figures that a run of a model asks for; of ``all``, those that suit the model.

    A name that is unknown or does not suit the model is refused with a `ConfigError`.
    """
    return registry.suiting(asked, model, FIGURES, MODELS, "figure")
