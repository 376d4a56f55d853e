"""Baselines, one line each: the same protocol and folds as the models that they stand beside."""

BASELINES = {
    "band_power_lda": "neuropipe.baselines.band_power:BandPowerLDA",
    "band_power_logistic": "neuropipe.baselines.band_power:BandPowerLogistic",
    "du_in_from_scratch": "neuropipe.models.du_in.estimator:DuINFromScratch",
    "du_in_unquantised": "neuropipe.models.du_in.estimator:DuINUnquantised",
    "eeg_conformer": "neuropipe.baselines.net_decoders:EEGConformer",
    "eegnet": "neuropipe.baselines.net_decoders:EEGNet",
    "homogeneous_rate": "neuropipe.baselines.homogeneous_rate:HomogeneousRate",
    "poisson_glm": "neuropipe.baselines.poisson_glm:PoissonGLM",
    "gaussian_glm": "neuropipe.baselines.poisson_glm:GaussianGLM",
    "poisson_hmm": "neuropipe.baselines.poisson_hmm:PoissonHMM",
    "plain_cp": "neuropipe.baselines.cp:PlainCP",
    "static_correlation": "neuropipe.baselines.correlation:StaticCorrelation",
    "gpfa": "neuropipe.baselines.gpfa:GPFA",
    "pca_regression": "neuropipe.baselines.pca_regression:PCARegression",
    "smoothed_factors": "neuropipe.baselines.smoothed_factors:SmoothedFactors",
    "unshared_gpvae": "neuropipe.models.mm_gpvae.unshared:UnsharedGPVAE",
    "windowed_correlation": "neuropipe.baselines.correlation:WindowedCorrelation",
}
