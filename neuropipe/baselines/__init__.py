"""Baselines, one line each: the same protocol and folds as the models that they stand beside."""

BASELINES = {
    "homogeneous_rate": "neuropipe.baselines.homogeneous_rate:HomogeneousRate",
    "poisson_glm": "neuropipe.baselines.poisson_glm:PoissonGLM",
    "gaussian_glm": "neuropipe.baselines.poisson_glm:GaussianGLM",
    "poisson_hmm": "neuropipe.baselines.poisson_hmm:PoissonHMM",
    "plain_cp": "neuropipe.baselines.cp:PlainCP",
    "static_correlation": "neuropipe.baselines.correlation:StaticCorrelation",
    "windowed_correlation": "neuropipe.baselines.correlation:WindowedCorrelation",
}
