"""The embedded autoencoder: an analytic PCA encoder and a trained decoder.

The encoder of AutoencoderTiny without residual blocks is linear, so it can hold a PCA of 4 x 4 patches
exactly: two stride-2 convolutions pack the patch into 48 channels, the last one projects them to 8.
Only the decoder is trained, so the latents are known before anything is.
"""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor

LATENT_CHANNELS = 8
PATCH = 4
WIDTH = 48  # 3 colours x 4 x 4 pixels


def build_autoencoder(pictures: Tensor) -> AutoencoderTiny:
    """An autoencoder whose encoder is the scaled PCA of `pictures`, float32 [n, 3, 64, 64] in [-1, 1]."""
    vae = AutoencoderTiny(
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(WIDTH, WIDTH, WIDTH),
        num_encoder_blocks=(0, 0, 0),
        decoder_block_out_channels=(48, 48, 48),
        num_decoder_blocks=(3, 2, 1),
    )
    with torch.no_grad():
        _set_encoder(vae, pictures)
    vae.encoder.requires_grad_(False)
    return vae


def _packed(pictures: Tensor) -> Tensor:
    """Patches as rows, float32 [n * 256, 48], in the order the packing convolutions give."""
    once = F.pixel_unshuffle(pictures.add(1).div(2), 2)
    return F.pixel_unshuffle(once, 2).permute(0, 2, 3, 1).reshape(-1, WIDTH)


def _set_encoder(vae: AutoencoderTiny, pictures: Tensor) -> None:
    rows = _packed(pictures)
    mean = rows.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(rows.T))
    projection = vectors[:, -LATENT_CHANNELS:].flip(1).T
    deviation = values[-LATENT_CHANNELS:].flip(0).sqrt()
    projection = projection / deviation.sqrt()[:, None]  # channels keep part of their rank: deviation^0.5
    projection = projection / ((rows - mean) @ projection.T).std()
    first, second, third, last = vae.encoder.layers
    for layer in (first, second, third, last):
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()
    for c in range(3):
        first.weight[c, c, 1, 1] = 1
    for layer, channels in ((second, 3), (third, 12)):
        for c in range(channels):
            for k, (dy, dx) in enumerate(((1, 1), (1, 2), (2, 1), (2, 2))):
                layer.weight[c * 4 + k, c, dy, dx] = 1
    last.weight[:, :, 1, 1] = projection
    last.bias.copy_(-projection @ mean)


def edges(pictures: Tensor) -> Tensor:
    """Horizontal and vertical differences, flattened together."""
    return torch.cat([pictures.diff(dim=2).flatten(1), pictures.diff(dim=3).flatten(1)], 1)


def decoder_loss(vae: AutoencoderTiny, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """L1 + MSE + half the L1 of the edges, with a little noise on the latents."""
    with torch.no_grad():
        latents = vae.encode(pictures).latents
        latents = latents + 0.05 * torch.randn(latents.shape, generator=generator)
    decoded = vae.decode(latents).sample
    return (
        F.l1_loss(decoded, pictures) + F.mse_loss(decoded, pictures) + 0.5 * F.l1_loss(edges(decoded), edges(pictures))
    )


@torch.no_grad()
def psnr(vae: AutoencoderTiny, pictures: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of decoded `pictures`."""
    decoded = vae.decode(vae.encode(pictures).latents).sample.clamp(-1, 1)
    return float(-10 * torch.log10(F.mse_loss(decoded / 2, pictures / 2)))
