"""The diffusion process, its samplers and its noise."""

from diffusionmtl.diffusion.noise import NoiseSource, NoNoise, ScaledNoise, SeededNoise
from diffusionmtl.diffusion.process import Schedule, posterior_mean, q_sample, scaled_linear_schedule
from diffusionmtl.diffusion.samplers import ddim, ddpm, repeated

__all__ = [
    "NoNoise",
    "NoiseSource",
    "ScaledNoise",
    "Schedule",
    "SeededNoise",
    "ddim",
    "ddpm",
    "posterior_mean",
    "q_sample",
    "repeated",
    "scaled_linear_schedule",
]
