"""Build the embedded base from nothing: `python -m infra.base.build [--steps N] [--part NAME]`.

Parts: vae (autoencoder and tokenizer), unet (with the text encoder), clip. Each resumes from its state
under build/base when it was interrupted. The result is written to infra/base/model.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module
from transformers import CLIPTokenizer

from infra.base.autoencoder import build_autoencoder, decoder_loss, psnr
from infra.base.clip import ClipBatches, build_clip, clip_loss, distractors, save_clip
from infra.base.denoiser import Denoiser, draw_batch, optimisers
from infra.base.pictures import adire_pictures, base_pictures, to_tensor
from infra.base.tokenizer import prune_merges, write_open_clip_merges, write_tokenizer

MODEL = Path(__file__).parent / "model"
WORK = Path("build/base")
BASE_COUNT, ADIRE_COUNT = 16_000, 6_000
SEED = 20


def main() -> None:
    """Build the parts asked for, in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("vae", "unet", "clip"), action="append")
    parser.add_argument("--steps", type=int, default=3600, help="UNet steps of 64 pictures")
    options = parser.parse_args()
    parts = {"vae": build_vae, "unet": lambda: build_denoiser(options.steps), "clip": build_scorer}
    for name in options.part or list(parts):
        parts[name]()


class Clock:
    """Prints a line of progress with the time left, at most every 20 seconds."""

    def __init__(self, name: str, first: int, last: int) -> None:
        self.name, self.first, self.last = name, first, last
        self.start = self.shown = time.monotonic()

    def tick(self, step: int, loss: float) -> None:
        """Report `step` of the whole."""
        now = time.monotonic()
        if now - self.shown > 20 or step == self.last:
            self.shown = now
            left = (now - self.start) / (step - self.first) * (self.last - step)
            print(f"{self.name} {step}/{self.last} loss {loss:.4f} left {left / 60:.1f} min", flush=True)


def build_vae(steps: int = 1500) -> None:
    """The tokenizer and the autoencoder."""
    write_tokenizer(MODEL / "pipeline" / "tokenizer")
    (MODEL / "clip").mkdir(parents=True, exist_ok=True)
    write_open_clip_merges(prune_merges(), MODEL / "clip")
    torch.manual_seed(SEED)
    pictures = to_tensor(base_pictures(BASE_COUNT, WORK / "cache")[1])
    vae = build_autoencoder(pictures[:4000])
    vae.save_pretrained(WORK / "vae-encoder")
    generator = torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(vae.decoder.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    clock = Clock("vae", 0, steps)
    for step in range(1, steps + 1):
        rows = torch.randint(len(pictures) - 500, (16,), generator=generator)
        loss = decoder_loss(vae, pictures[rows], generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        clock.tick(step, loss.item())
    adire = to_tensor(adire_pictures(ADIRE_COUNT, WORK / "cache")[1][:500])
    print(f"vae psnr: base {psnr(vae, pictures[-500:]):.1f} dB, adire {psnr(vae, adire):.1f} dB")
    vae.half().save_pretrained(MODEL / "pipeline" / "vae")


def build_denoiser(steps: int, size: int = 64, keep_every: int = 100) -> None:
    """The UNet and text encoder; an interim pipeline is exported at every state."""
    scenes, pictures = base_pictures(BASE_COUNT, WORK / "cache")
    vae = AutoencoderTiny.from_pretrained(WORK / "vae-encoder")
    with torch.no_grad():
        latents = torch.cat(
            [vae.encode(to_tensor(pictures[i : i + 500])).latents for i in range(0, len(pictures), 500)]
        )
    tokenizer = write_tokenizer(MODEL / "pipeline" / "tokenizer")
    torch.manual_seed(SEED)
    model = Denoiser(tokenizer)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    trainers = optimisers(model)
    first = load_state(model, average, trainers, WORK / "unet-state")
    clock = Clock("unet", first, steps)
    for step in range(first + 1, steps + 1):
        rate = min(1.0, step / 50, (steps - step + 1) / (0.35 * steps))
        for trainer in trainers:
            for group in trainer.param_groups:
                group["lr"] = rate * group.setdefault("peak", group["lr"])
        loss = model.loss(draw_batch(latents, scenes, tokenizer, size, SEED, step))
        model.zero_grad()
        loss.backward()
        for trainer in trainers:
            trainer.step()
        blend(average, model, min(0.995, step / (step + 10)))
        clock.tick(step, loss.item())
        if step % keep_every == 0 or step == steps:
            save_state(model, average, trainers, WORK / "unet-state", step)
            export(average, tokenizer)


@torch.no_grad()
def blend(average: dict[str, Tensor], model: Module, decay: float) -> None:
    """Exponential moving average of the weights."""
    for name, value in model.state_dict().items():
        average[name].lerp_(value, 1 - decay) if value.is_floating_point() else average[name].copy_(value)


def save_state(
    model: Module, average: dict[str, Tensor], trainers: list[torch.optim.Optimizer], folder: Path, step: int
) -> None:
    """Write weights, averages and optimiser states; step.json, written last, makes them valid."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v.contiguous() for k, v in average.items()}
    for i, trainer in enumerate(trainers):
        for j, state in trainer.state_dict()["state"].items():
            tensors |= {f"trainer.{i}.{j}.{k}": v.contiguous() for k, v in state.items()}
    name = f"state-{step % 2}.safetensors"
    save_file({k: v.clone() for k, v in tensors.items()}, folder / name)
    (folder / "step.tmp").write_text(json.dumps({"step": step, "file": name}))
    (folder / "step.tmp").rename(folder / "step.json")


def load_state(model: Module, average: dict[str, Tensor], trainers: list[torch.optim.Optimizer], folder: Path) -> int:
    """Restore the newest state; the step it was written at, 0 when there is none."""
    if not (folder / "step.json").exists():
        return 0
    entry = json.loads((folder / "step.json").read_text())
    tensors = load_file(folder / entry["file"])
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    average.update({k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")})
    for i, trainer in enumerate(trainers):
        whole = trainer.state_dict()
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"trainer.{i}."):
                _, _, j, k = key.split(".")
                state.setdefault(int(j), {})[k] = value
        trainer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
    return int(entry["step"])


def export(average: dict[str, Tensor], tokenizer: CLIPTokenizer) -> None:
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
    config = MODEL / "pipeline" / "vae" / "config.json"
    kept = {k: v for k, v in json.loads(config.read_text()).items() if k != "_name_or_path"}  # a path of this machine
    config.write_text(json.dumps(kept, indent=2) + "\n")


def build_scorer(steps: int = 3000, size: int = 64) -> None:
    """The embedded CLIP."""
    write_open_clip_merges(prune_merges(), MODEL / "clip")
    scenes, base = base_pictures(BASE_COUNT, WORK / "cache")
    kinds, adire = adire_pictures(ADIRE_COUNT, WORK / "cache")
    batches = ClipBatches(scenes[:-500], base[:-500], kinds[:-500], adire[:-500], MODEL / "clip")
    torch.manual_seed(SEED)
    model = build_clip(batches.tokenizer.vocab_size)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.02)
    first = load_state(model, average, [optimiser], WORK / "clip-state")
    clock = Clock("clip", first, steps)
    generator = np.random.default_rng(SEED)
    for step in range(first + 1, steps + 1):
        optimiser.param_groups[0]["lr"] = 1.5e-3 * min(1.0, step / 100, (steps - step + 1) / (0.6 * steps))
        pictures, tokens, negatives = batches.draw(size, step)
        loss = clip_loss(model, pictures, tokens, negatives, distractors(12, generator))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)
        optimiser.step()
        blend(average, model, min(0.99, step / (step + 10)))
        clock.tick(step, loss.item())
        if step % 250 == 0 or step == steps:
            save_state(model, average, [optimiser], WORK / "clip-state", step)
    model.load_state_dict(average)
    save_clip(model, batches.tokenizer.vocab_size, MODEL / "clip")


if __name__ == "__main__":
    main()
