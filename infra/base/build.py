"""Build the embedded base from nothing: `python -m infra.base.build [--part NAME] [--steps N] [--from-committed]`.

Parts: vae (autoencoder and tokenizer), unet (with the text encoder), clip. Each goes on from its state
under build/base when it was interrupted. The result is written to infra/base/model.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from transformers import CLIPTokenizer

from infra.base.autoencoder import PATCH, build_autoencoder, decoder_loss, psnr
from infra.base.clip import ClipBatches, build_clip, clip_loss, save_clip
from infra.base.denoiser import Batches, Denoiser, committed_weights, optimisers
from infra.base.loop import Loop, Weights
from infra.base.pictures import adire_pictures, base_pictures, to_tensor
from infra.base.tokenizer import prune_merges, write_open_clip_merges, write_tokenizer

MODEL = Path(__file__).parent / "model"
WORK = Path("build/base")
BASE_COUNT, ADIRE_COUNT = 16_000, 6_000
DENOISER_COUNT = 48_000  # base pictures that the UNet learns from
HELD = 500  # pictures of either family that no part is trained on
CROP = 32  # pixels, of the decoder's training
SEED = 20


def main() -> None:
    """Build the parts asked for, in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("vae", "unet", "clip"), action="append")
    parser.add_argument("--steps", type=int, default=0, help="steps of UNet or CLIP, where one is named")
    parser.add_argument("--batch", type=int, default=64, help="pictures of a UNet step, and half those of a CLIP step")
    parser.add_argument("--device", default="cpu", help="torch device on which UNet and CLIP are trained")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw their batches ahead")
    parser.add_argument(
        "--from-committed", action="store_true", help="start the UNet from the committed averaged weights"
    )
    options = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "vae": build_vae,
        "unet": lambda: build_denoiser(options),
        "clip": lambda: build_scorer(options),
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


def build_denoiser(options: argparse.Namespace) -> None:
    """The UNet and text encoder; an interim pipeline is exported at every state."""
    device, again = torch.device(options.device), bool(options.from_committed)
    scenes, pictures = base_pictures(DENOISER_COUNT, WORK / "cache")
    encoder = WORK / "vae-encoder" if (WORK / "vae-encoder").exists() else MODEL / "pipeline" / "vae"
    vae = AutoencoderTiny.from_pretrained(encoder, torch_dtype=torch.float32)
    with torch.no_grad():
        latents = torch.cat(
            [vae.encode(to_tensor(pictures[i : i + 500])).latents for i in range(0, len(pictures), 500)]
        )
    tokenizer = write_tokenizer(MODEL / "pipeline" / "tokenizer")
    torch.manual_seed(SEED)
    model = Denoiser(tokenizer)
    if again:
        model.load_state_dict(committed_weights(MODEL / "pipeline"))
    model.to(device)
    seed = SEED + again  # other batches than those that the committed weights began with
    peak = 0.5 if again else 1.0
    steps = options.steps or 5000
    often = max(100, steps // 40)
    loop = Loop("unet", model, optimisers(model), steps, WORK / "unet-state", peak=peak, fall=0.5, keep_every=often)
    batches = loop.batches(Batches(latents, scenes, tokenizer, options.batch, seed), options.workers)
    loop.run(lambda _: model.loss(next(batches).to(device)), lambda average: export(average, tokenizer))


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


def build_scorer(options: argparse.Namespace) -> None:
    """The embedded CLIP."""
    (MODEL / "clip").mkdir(parents=True, exist_ok=True)
    write_open_clip_merges(prune_merges(), MODEL / "clip")
    scenes, base = base_pictures(BASE_COUNT, WORK / "cache")
    kinds, adire = adire_pictures(ADIRE_COUNT, WORK / "cache")
    data = ClipBatches(scenes[:-HELD], base[:-HELD], kinds[:-HELD], adire[:-HELD], MODEL / "clip", options.batch)
    torch.manual_seed(SEED)
    model = build_clip(data.tokenizer.vocab_size).to(options.device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.02)
    steps, state = options.steps or 3000, WORK / "clip-state"
    loop = Loop("clip", model, [optimiser], steps, state, warm=100, fall=0.6, decay=0.99, keep_every=1000)
    batches = loop.batches(data, options.workers)
    model.load_state_dict(loop.run(lambda _: clip_loss(model, *(t.to(options.device) for t in next(batches)))))
    save_clip(model, data.tokenizer.vocab_size, MODEL / "clip")


if __name__ == "__main__":
    main()
