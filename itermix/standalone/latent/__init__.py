"""A small latent diffusion model with a known truth: vector pictures, its networks, and what is measured with them."""
