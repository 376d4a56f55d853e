"""Hand-written operations: each has a plain torch reference and a fused Triton form."""

from __future__ import annotations

from neuropipe_kernels.dispatch import BackendUnavailable
from neuropipe_kernels.glm_ll import glm_ll
from neuropipe_kernels.hmm_fb import HMMPosterior, hmm_fb
from neuropipe_kernels.ntf_sweep import ntf_padded, ntf_sweep, ntf_update
from neuropipe_kernels.poisson_lowrank_nll import poisson_lowrank_nll
from neuropipe_kernels.sos_scan import sos_scan
from neuropipe_kernels.viterbi import ViterbiPath, viterbi
from neuropipe_kernels.vq_ema import Codes, vq_ema, vq_update

# One line an op; tests and the benchmark loop over this table. The imports above are light:
# no op imports triton before its fused form is called. They stay eager because an op and
# its folder share a name, and a later import of the folder would shadow the function.
OPS = {
    "hmm_fb": "neuropipe_kernels.hmm_fb:hmm_fb",
    "viterbi": "neuropipe_kernels.viterbi:viterbi",
    "glm_ll": "neuropipe_kernels.glm_ll:glm_ll",
    "ntf_sweep": "neuropipe_kernels.ntf_sweep:ntf_sweep",
    "poisson_lowrank_nll": "neuropipe_kernels.poisson_lowrank_nll:poisson_lowrank_nll",
    "sos_scan": "neuropipe_kernels.sos_scan:sos_scan",
    "vq_ema": "neuropipe_kernels.vq_ema:vq_ema",
}

__all__ = [
    "OPS",
    "BackendUnavailable",
    "Codes",
    "HMMPosterior",
    "ViterbiPath",
    "glm_ll",
    "hmm_fb",
    "ntf_padded",
    "ntf_sweep",
    "ntf_update",
    "poisson_lowrank_nll",
    "sos_scan",
    "viterbi",
    "vq_ema",
    "vq_update",
]
