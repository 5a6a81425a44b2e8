"""What a training step costs: dyeworks, a plain loop, and the bare limit, in turn on the same base.

The plain loop encodes picture and prompt in every step and goes through the effective batch one picture at a time, as
the usual example scripts do. The bare limit is the UNet's forward and backward and the optimiser on ready tensors, the
whole effective batch at once. `python -m tests.bench_training BASE NAME` runs one of them alone, for its peak memory.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from infra.base.visitors import FIRST_TASTE, draw_uploads
from infra.base.world import adire_caption, draw_adire
from tasks.core.config.presets import load_preset
from tasks.core.config.training import PriorSpec, TrainSpec, ValidationSpec
from tasks.core.models.device import pick_device
from tasks.core.models.pipeline import Pipeline, load_pipeline
from tasks.core.training.dataset import Lesson, drawn, pixels_of
from tasks.core.training.learner import AUTOCAST, add_lora
from tasks.core.training.memory import peak_mib
from tasks.core.training.trainer import Trainer
from tests.bench_table import Row, row
from tests.pipelines import NOISE, tokenizer

PICTURES = 16
Step = Callable[[], object]
Batch = Callable[[int], tuple[Tensor, ...]]  # noisy, times, text, target of a part
SD15 = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8}


def embedded(pictures: int) -> tuple[Pipeline, TrainSpec]:
    """The embedded base and the LoRA of its preset, whose steps are of eight pictures."""
    spec = load_preset("embedded").train.model_copy(update={"batch": 1, "accumulation": pictures})
    return load_pipeline("embedded"), _plain(spec)


def stable_diffusion(resolution: int = 512) -> tuple[Pipeline, TrainSpec]:
    """The architecture of Stable Diffusion 1.5 with random weights, and the founding recipe."""
    spec = load_preset("founding").train.model_copy(update={"resolution": resolution, "optimiser": "adamw"})
    device = pick_device()
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        scaling_factor=0.18215,
    )
    text = CLIPTextModel(
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    )
    schedule = DDIMScheduler(**NOISE, clip_sample=False)
    pipe = StableDiffusionPipeline(
        vae, text, tokenizer(), UNet2DConditionModel(**SD15), schedule, None, None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device, AUTOCAST[spec.precision] if device.type == "cuda" else torch.float32), _plain(spec)


def _plain(spec: TrainSpec) -> TrainSpec:
    return spec.model_copy(update={"prior": PriorSpec(), "validation": ValidationSpec(every=0)})


BASES: dict[str, Callable[[], tuple[Pipeline, TrainSpec]]] = {
    "embedded, 8 pictures a step": lambda: embedded(8),
    "embedded, 4 pictures a step": lambda: embedded(4),
    "sd15, 4 pictures a step": stable_diffusion,
}


def pictures(side: int) -> tuple[list[Image.Image], list[str]]:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(draw_adire("rings", "large", rng)).resize((side, side)) for _ in range(PICTURES)]
    return images, [adire_caption("rings", "large", rng) for _ in images]


def dyeworks(pipe: Pipeline, spec: TrainSpec, cache: Path) -> Step:
    """A step of the trainer."""
    named = [drawn(*pair) for pair in zip(*pictures(spec.resolution), strict=True)]
    trainer = Trainer(pipe, Lesson(named, np.full(PICTURES, 1 / PICTURES)), spec, cache)
    numbers = iter(range(1, 10**9))

    def step() -> object:
        number = next(numbers)
        return trainer.learner.step(number, trainer.draws.samples(number))

    return step


def _loop(pipe: Pipeline, spec: TrainSpec, batch: Callable[[int], tuple[Tensor, ...]], parts: int) -> Step:
    """An optimiser step over so many parts; `batch` returns the UNet's inputs, and the target."""
    parameters = list(add_lora(pipe.unet, spec).values())
    optimiser = torch.optim.AdamW(parameters, lr=spec.learning_rate)
    dtype = AUTOCAST[spec.precision]
    device = pipe.unet.device

    def step() -> object:
        for part in range(parts):
            noisy, times, text, target = batch(part)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                predicted = pipe.unet(noisy, times, text).sample
            loss = (predicted.float() - target.float()).square().mean() / parts
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, spec.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        return loss.item()

    return step


def plain(pipe: Pipeline, spec: TrainSpec, cache: Path) -> Step:
    """The loop of the usual example scripts."""
    images, captions = pictures(spec.resolution)
    noise = DDPMScheduler.from_config(pipe.scheduler.config)
    device, dtype = pipe.unet.device, pipe.unet.dtype

    def batch(part: int) -> tuple[Tensor, ...]:
        with torch.no_grad():
            encoded = pipe.vae.encode(pixels_of(images[part]).to(device, dtype))
            latents = encoded.latent_dist.sample() if hasattr(encoded, "latent_dist") else encoded.latents
            latents = latents * pipe.vae.config.scaling_factor
            text, _ = pipe.encode_prompt(captions[part], device, 1, do_classifier_free_guidance=False)
        drawn_noise = torch.randn_like(latents)
        times = torch.randint(0, noise.config.num_train_timesteps, (1,), device=device)
        noisy = noise.add_noise(latents, drawn_noise, times)
        velocity = noise.config.prediction_type == "v_prediction"
        return noisy, times, text, noise.get_velocity(latents, drawn_noise, times) if velocity else drawn_noise

    return _loop(pipe, spec, batch, spec.effective)


def bare(pipe: Pipeline, spec: TrainSpec, cache: Path) -> Step:
    """Ready tensors, one forward."""
    unet, count = pipe.unet, spec.effective
    side = spec.resolution // pipe.vae_scale_factor
    options = {"device": unet.device, "dtype": unet.dtype}
    noisy, target = (torch.randn(count, unet.config.in_channels, side, side, **options) for _ in range(2))
    width = pipe.tokenizer.model_max_length, unet.config.cross_attention_dim
    text = torch.randn(count, *width, **options)
    times = torch.arange(count, device=unet.device) * 200
    return _loop(pipe, spec, lambda part: (noisy, times, text, target), 1)


RUNNERS = {"dyeworks": dyeworks, "plain loop": plain, "bare limit": bare}


def speeds(base: str, runs: int) -> dict[str, float]:
    """Steps a second of each, run in turn: medians over `runs` rounds of a step."""
    with TemporaryDirectory() as cache:
        steps = {name: make(*BASES[base](), Path(cache)) for name, make in RUNNERS.items()}
        taken: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(runs + 2):
            for name, step in steps.items():
                begin = time.perf_counter()
                step()
                if number > 1:
                    taken[name].append(time.perf_counter() - begin)
    return {name: 1 / statistics.median(seconds) for name, seconds in taken.items()}


def peaks(base: str) -> dict[str, float]:
    """Peak memory of each over three steps in MiB, in separate processes."""
    command = [sys.executable, "-m", "tests.bench_training", base]
    found = {}
    for name in RUNNERS:
        output = subprocess.run([*command, name], capture_output=True, check=True, text=True).stdout
        found[name] = float(json.loads(output.splitlines()[-1])["peak_mib"])
    return found


def training(runs: int = 30) -> list[Row]:
    """Speed and memory on the embedded base, and on Stable Diffusion 1.5's architecture where there is a GPU."""
    bases = [base for base in BASES if torch.cuda.is_available() or not base.startswith("sd15")]
    return [found for base in bases for found in _rows(base, runs)] + around()


def _rows(base: str, runs: int) -> list[Row]:
    fast, most = speeds(base, runs), peaks(base)
    name, ours = f"training on {base}", fast["dyeworks"]
    return [
        row(name, "steps/s", ours, "plain loop", fast["plain loop"], runs),
        row(name, "steps/s", ours, "bare limit", fast["bare limit"], runs),
        row(f"{name}: peak memory", "MiB", most["dyeworks"], "plain loop", most["plain loop"], 1),
    ]


def around() -> list[Row]:
    """Seconds from after the imports to the first step with a warm cache, and the share of reporting; limits."""
    with TemporaryDirectory() as folder:
        draw_uploads(Path(folder) / "pictures", 100, FIRST_TASTE, seed=1, pixels=64)
        for _ in ("cold", "warm"):
            output = subprocess.run(
                [sys.executable, "-m", "tests.bench_start", folder], capture_output=True, check=True, text=True
            ).stdout
    found = json.loads(output.splitlines()[-1])
    return [
        row("start to first step, embedded, warm", "s", found["start"], "allowed", 3.0, 1),
        row("reporting of steps", "of the loop", found["reporting_share"], "allowed", 0.02, 1),
    ]


def main(base: str, name: str) -> None:
    """One of them alone."""
    with TemporaryDirectory() as cache:
        step = RUNNERS[name](*BASES[base](), Path(cache))
        for _ in range(3):
            step()
    print(json.dumps({"peak_mib": peak_mib(pick_device())}))


if __name__ == "__main__":
    main(*sys.argv[1:])
