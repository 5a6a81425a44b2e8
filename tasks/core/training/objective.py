"""The objective: the added noise, the prediction target, and the weight of each timestep."""

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Generator, Tensor


def draw_noise(like: Tensor, offset: float, generator: Generator) -> Tensor:
    """Normal noise in the shape of the latents, [..., c, h, w].

    With an offset, each channel of a picture is shifted as a whole by normal noise of this deviation: without it a
    picture's mean is nearly seen at every time, and never learnt
    (https://www.crosslabs.org/blog/diffusion-with-offset-noise).
    """
    noise = torch.randn(like.shape, generator=generator)
    if not offset:
        return noise
    return noise + offset * torch.randn((*like.shape[:-2], 1, 1), generator=generator)


def target_of(noise: DDPMScheduler, latents: Tensor, drawn: Tensor, times: Tensor) -> Tensor:
    """The prediction target by the scheduler's config, [n, c, h, w]: the velocity, or the noise."""
    if noise.config.prediction_type == "v_prediction":
        velocity: Tensor = noise.get_velocity(latents, drawn, times)
        return velocity
    return drawn


def snr_weights(noise: DDPMScheduler, times: Tensor, gamma: float) -> Tensor:
    """Weights of the squared errors, float32 [n]; gamma 0: all are 1.

    Hang et al. 2023 (https://arxiv.org/abs/2303.09556), section 3.4: an error of the picture weighs min(SNR, gamma).
    In units of the noise that is min(SNR, gamma) / SNR, in those of the velocity min(SNR, gamma) / (SNR + 1).
    """
    if not gamma:
        return torch.ones(len(times))
    snr: Tensor = compute_snr(noise, times)
    if noise.config.prediction_type == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1)
    return (gamma / snr).clamp(max=1)
