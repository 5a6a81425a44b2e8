"""Build the embedded base from nothing: `python -m infra.base.build [--part NAME] [--steps N] [--from-committed]`.

Parts: vae (autoencoder and tokenizer), unet (with the text encoder), clip. Each goes on from its state
under build/base when it was interrupted. The result is written to infra/base/model.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from transformers import CLIPTokenizer

from infra.base.autoencoder import PATCH, build_autoencoder, decoder_loss, psnr
from infra.base.clip import ClipBatches, build_clip, clip_loss, distractors, save_clip
from infra.base.denoiser import Denoiser, committed_weights, draw_batch, optimisers
from infra.base.loop import Loop, Weights
from infra.base.pictures import adire_pictures, base_pictures, to_tensor
from infra.base.tokenizer import prune_merges, write_open_clip_merges, write_tokenizer

MODEL = Path(__file__).parent / "model"
WORK = Path("build/base")
BASE_COUNT, ADIRE_COUNT = 16_000, 6_000
HELD = 500  # pictures of either family that no part is trained on
CROP = 32  # pixels, of the decoder's training
SEED = 20


def main() -> None:
    """Build the parts asked for, in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("vae", "unet", "clip"), action="append")
    parser.add_argument("--steps", type=int, default=5000, help="UNet steps of 64 pictures")
    parser.add_argument(
        "--from-committed", action="store_true", help="start the UNet from the committed averaged weights"
    )
    options = parser.parse_args()
    parts = {
        "vae": build_vae,
        "unet": lambda: build_denoiser(options.steps, options.from_committed),
        "clip": build_scorer,
    }
    for name in options.part or list(parts):
        parts[name]()


def build_vae(steps: int = 4000, size: int = 24) -> None:
    """The tokenizer, and the autoencoder: its encoder from base pictures alone, its decoder from both families."""
    write_tokenizer(MODEL / "pipeline" / "tokenizer")
    torch.manual_seed(SEED)
    base = to_tensor(base_pictures(BASE_COUNT, WORK / "cache")[1])
    adire = to_tensor(adire_pictures(ADIRE_COUNT, WORK / "cache")[1])
    vae = build_autoencoder(base[:4000])
    vae.save_pretrained(WORK / "vae-encoder")

    def loss(step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(SEED * 1_000_003 + step)
        top, left = (torch.randint(9, (2,), generator=generator) * PATCH).tolist()
        pictures = [p[torch.randint(len(p) - HELD, (size // 2,), generator=generator)] for p in (base, adire)]
        crops = torch.cat(pictures)[:, :, top : top + CROP, left : left + CROP]
        with torch.autocast("cpu", torch.bfloat16):
            return decoder_loss(vae, crops, generator)

    optimiser = torch.optim.AdamW(vae.decoder.parameters(), lr=2e-3, weight_decay=0.0)
    loop = Loop("vae", vae, [optimiser], steps, WORK / "vae-state", fall=0.7, decay=0.99, keep_every=250)
    vae.load_state_dict(loop.run(loss))
    print(f"vae psnr: base {psnr(vae, base[-HELD:]):.1f} dB, adire {psnr(vae, adire[-HELD:]):.1f} dB")
    vae.half().save_pretrained(MODEL / "pipeline" / "vae")
    _forget_path()


def build_denoiser(steps: int, from_committed: bool, size: int = 64) -> None:
    """The UNet and text encoder; an interim pipeline is exported at every state."""
    scenes, pictures = base_pictures(BASE_COUNT, WORK / "cache")
    encoder = MODEL / "pipeline" / "vae" if from_committed else WORK / "vae-encoder"
    vae = AutoencoderTiny.from_pretrained(encoder, torch_dtype=torch.float32)
    with torch.no_grad():
        latents = torch.cat(
            [vae.encode(to_tensor(pictures[i : i + 500])).latents for i in range(0, len(pictures), 500)]
        )
    tokenizer = write_tokenizer(MODEL / "pipeline" / "tokenizer")
    torch.manual_seed(SEED)
    model = Denoiser(tokenizer)
    if from_committed:
        model.load_state_dict(committed_weights(MODEL / "pipeline"))
    seed = SEED + from_committed  # other batches than those that the committed weights began with
    peak = 0.5 if from_committed else 1.0
    loop = Loop("unet", model, optimisers(model), steps, WORK / "unet-state", peak=peak, fall=0.5)
    loop.run(
        lambda step: model.loss(draw_batch(latents, scenes, tokenizer, size, seed, step)),
        lambda average: export(average, tokenizer),
    )


def export(average: Weights, tokenizer: CLIPTokenizer) -> None:
    """Write the averaged weights as an fp16 Stable Diffusion pipeline beside the autoencoder."""
    model = Denoiser(tokenizer)
    model.load_state_dict(average)
    vae_folder = MODEL / "pipeline" / "vae"
    StableDiffusionPipeline(
        vae=AutoencoderTiny.from_pretrained(vae_folder if vae_folder.exists() else WORK / "vae-encoder"),
        text_encoder=model.text_encoder.half(),
        tokenizer=tokenizer,
        unet=model.unet.half(),
        scheduler=model.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(dtype=torch.float16).save_pretrained(MODEL / "pipeline")
    _forget_path()


def _forget_path() -> None:
    """Take the path of this machine out of the autoencoder's config."""
    config = MODEL / "pipeline" / "vae" / "config.json"
    kept = {k: v for k, v in json.loads(config.read_text(encoding="utf-8")).items() if k != "_name_or_path"}
    config.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def build_scorer(steps: int = 3000, size: int = 64) -> None:
    """The embedded CLIP."""
    (MODEL / "clip").mkdir(parents=True, exist_ok=True)
    write_open_clip_merges(prune_merges(), MODEL / "clip")
    scenes, base = base_pictures(BASE_COUNT, WORK / "cache")
    kinds, adire = adire_pictures(ADIRE_COUNT, WORK / "cache")
    batches = ClipBatches(scenes[:-HELD], base[:-HELD], kinds[:-HELD], adire[:-HELD], MODEL / "clip")
    torch.manual_seed(SEED)
    model = build_clip(batches.tokenizer.vocab_size)

    def loss(step: int) -> torch.Tensor:
        pictures, tokens, negatives = batches.draw(size, step)
        return clip_loss(model, pictures, tokens, negatives, distractors(12, np.random.default_rng([SEED, step])))

    optimiser = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.02)
    loop = Loop("clip", model, [optimiser], steps, WORK / "clip-state", warm=100, fall=0.6, decay=0.99, keep_every=250)
    model.load_state_dict(loop.run(loss))
    save_clip(model, batches.tokenizer.vocab_size, MODEL / "clip")


if __name__ == "__main__":
    main()
