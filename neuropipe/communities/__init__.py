"""Communities of weighted graphs: block models, modularity, consensus, a benchmark family."""

from neuropipe.communities.consensus import agreement, co_assignment, consensus, stability
from neuropipe.communities.lfr import PlantedGraph, lfr_graph
from neuropipe.communities.modularity import modularity, modularity_value
from neuropipe.communities.partition import Partition
from neuropipe.communities.posterior import sample_partitions
from neuropipe.communities.sbm import description_length, fit_assortative, fit_sbm, select_sbm

__all__ = [
    "Partition",
    "PlantedGraph",
    "agreement",
    "co_assignment",
    "consensus",
    "description_length",
    "fit_assortative",
    "fit_sbm",
    "lfr_graph",
    "modularity",
    "modularity_value",
    "sample_partitions",
    "select_sbm",
    "stability",
]
