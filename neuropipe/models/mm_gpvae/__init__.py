"""MM-GPVAE: smooth latents that neural activity and behaviour share, and those they do not."""
