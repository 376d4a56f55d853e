"""Neuroformer: a generative model of spikes, conditioned on stimulus and behaviour."""
