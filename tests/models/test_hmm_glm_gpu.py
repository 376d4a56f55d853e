"""The HMM-GLM on a CUDA device: same answer as on the CPU, within float32."""

import numpy as np
import pytest
import torch
from planted import FORM, compare, fit, plant

from neuropipe.models.hmm_glm.config import Config
from neuropipe.models.hmm_glm.model import Batch, Parameters, e_step
from neuropipe.models.hmm_glm.search import search
from neuropipe.training.checkpoint import Checkpoint

pytestmark = pytest.mark.gpu


def moved(batch: Batch) -> Batch:
    return Batch(
        batch.features.cuda().float(), batch.counts.cuda().float(), batch.observed.cuda(),
        batch.lengths.cuda(),
    )  # fmt: skip


@pytest.mark.parametrize("prior", ["gaussian", "one_hot", "none"])
def test_fit_on_cuda_reaches_what_the_cpu_reaches(prior):
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    planted = plant(0, 4, 4)
    here = fit(planted, prior)
    config = Config(prior=prior, link="sigmoid", share_bias=True)
    there = search(moved(planted.train), 5, config, seed=0, checkpoint=Checkpoint(None, ""))
    there.parameters = Parameters(*(p.cpu().double() for p in there.parameters))
    ours, theirs = compare(planted, here), compare(planted, there)
    assert abs(ours["gap"] - theirs["gap"]) < 2e-3
    assert abs(ours["rmse"] - theirs["rmse"]) < 5e-3
    # the same parameters give the same posterior on both devices
    p32 = Parameters(*(p.cuda().float() for p in here.parameters))
    a = e_step(planted.test, here.parameters, FORM)
    b = e_step(moved(planted.test), p32, FORM)
    assert float(a.log_evidence) == pytest.approx(float(b.log_evidence), rel=1e-5)
    np.testing.assert_allclose(a.state_probability, b.state_probability.cpu().double(), atol=2e-2)
