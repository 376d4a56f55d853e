"""Tables of a run: a file holds one `table(results) -> DataFrame`; its docstring is the caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neuropipe import registry

TABLES: dict[str, str] = {
    "scores": "neuropipe.tables.scores:table",
    "states": "neuropipe.tables.states:table",
    "edges": "neuropipe.tables.edges:table",
    "recordings": "neuropipe.tables.recordings:table",
    "recovery": "neuropipe.tables.recovery:table",
    "components": "neuropipe.tables.components:table",
    "communities": "neuropipe.tables.communities:table",
    "community_stability": "neuropipe.tables.community_stability:table",
    "null_test": "neuropipe.tables.null_test:table",
    "group_recovery": "neuropipe.tables.group_recovery:table",
    "latent_summary": "neuropipe.tables.latent_summary:table",
    "dimension_choice": "neuropipe.tables.dimension_choice:table",
    "latent_recovery": "neuropipe.tables.latent_recovery:table",
    "class_decoding": "neuropipe.tables.class_decoding:table",
    "ablations": "neuropipe.tables.ablations:table",
    "contacts": "neuropipe.tables.contacts:table",
    "behavior_decoding": "neuropipe.tables.behavior_decoding:table",
    "driver_edges": "neuropipe.tables.driver_edges:table",
    "driver_recovery": "neuropipe.tables.driver_recovery:table",
    "explained_share": "neuropipe.tables.explained_share:table",
    "few_shot": "neuropipe.tables.few_shot:table",
    "fit_cost": "neuropipe.tables.fit_cost:table",
    "identification": "neuropipe.tables.identification:table",
    "adaptation": "neuropipe.tables.adaptation:table",
    "bridge_sizes": "neuropipe.tables.bridge_sizes:table",
}
# What suits these models only; whatever is not named here suits every model.
MODELS: dict[str, tuple[str, ...]] = {
    "states": ("hmm_glm",),
    "edges": ("hmm_glm",),
    "recovery": ("hmm_glm",),
    "components": ("ntf_connectome",),
    "communities": ("ntf_connectome",),
    "community_stability": ("ntf_connectome",),
    "null_test": ("ntf_connectome",),
    "group_recovery": ("ntf_connectome",),
    "latent_summary": ("mm_gpvae",),
    "dimension_choice": ("mm_gpvae",),
    "latent_recovery": ("mm_gpvae",),
    "class_decoding": ("du_in",),
    "ablations": ("du_in",),
    "contacts": ("du_in",),
    "behavior_decoding": ("neuroformer",),
    "driver_edges": ("neuroformer",),
    "driver_recovery": ("neuroformer",),
    "explained_share": ("neuroformer",),
    "few_shot": ("neuroformer",),
    "fit_cost": ("neuroformer",),
    "identification": ("mindbridge",),
    "adaptation": ("mindbridge",),
    "bridge_sizes": ("mindbridge",),
}


def resolve(name: str) -> Callable:
    """Return the `table(results) -> DataFrame` of a table; an unknown name lists the known."""
    return registry.resolve(name, TABLES, "table")


def caption(name: str) -> str:
    """Return the first paragraph of a table's docstring, without importing it."""
    return registry.caption(name, TABLES, "table")


def suiting(model: str, asked: Sequence[str] = "all") -> list[str]:
    """Return the tables that a run of a model asks for; of ``all``, those that suit the model.

    A name that is unknown or does not suit the model is refused with a `ConfigError`.
    """
    return registry.suiting(asked, model, TABLES, MODELS, "table")
