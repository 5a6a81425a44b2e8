"""Rendering: the base model with at most one adapter, one picture a (prompt, seed)."""

import time
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from tasks.core.config.model import ModelConfig
from tasks.core.errors import LoraUnusable, ModelUnusable
from tasks.core.models.adapters import forget_adapter, load_adapter
from tasks.core.models.fusing import FusedAdapter
from tasks.core.models.identity import WEIGHTS
from tasks.core.models.images import NAN, image_fault
from tasks.core.models.pipeline import Pipeline, load_pipeline


class Renders(Protocol):
    """Renders pictures with named adapters; the empty name is the bare base."""

    def load(self, folder: Path, name: str) -> None:
        """Load an adapter."""

    def activate(self, name: str) -> None:
        """Make this adapter the active one."""

    def render(
        self, prompts: list[str], seeds: list[int], steps: int, guidance: float, size: int | None = None
    ) -> tuple[list[Image.Image], float]:
        """A picture for each prompt and seed, and the seconds that each took."""


class Renderer:
    """Renders with the active adapter. Not safe for threads: `set_adapters` is global to a pipeline.

    A fast one fuses the adapter with the base and has its weights in the layout that convolutions want, in float32:
    half precision would round small updates away. Values of its pictures differ by rounding, by 2 of 255 at most.
    """

    def __init__(self, base: str, device: str = "", fast: bool = False) -> None:
        self.pipe = load_pipeline(base, device)
        self.active = ""  # empty: the bare base
        self.fused: FusedAdapter | None = None
        if fast and self.pipe.unet.dtype == torch.float32:
            self.fused = FusedAdapter(self.pipe)
            self.pipe.unet.to(memory_format=torch.channels_last)
            self.pipe.vae.to(memory_format=torch.channels_last)

    @property
    def side(self) -> int:
        """Pixels of a side of the square that the base was made for."""
        return int(self.pipe.unet.config.sample_size * self.pipe.vae_scale_factor)

    def load(self, folder: Path, name: str) -> None:
        """Load an adapter under a name of its own and keep the active one.

        Raises:
            ModelUnusable: it is no LoRA for this base.
            torch.OutOfMemoryError: the device is out of memory, which is no fault of the adapter.
        """
        if name in self.pipe.get_list_adapters().get("unet", []):
            return
        if self.fused:
            self.fused.restore()
        try:
            load_adapter(self.pipe, folder / WEIGHTS, name)
        except torch.OutOfMemoryError:
            raise
        except LoraUnusable as error:
            raise ModelUnusable(name, f"is no LoRA for this base: it {error.problem}") from error
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelUnusable(name, f"is no LoRA for this base: {error}") from error
        finally:
            self._set_again()

    def activate(self, name: str) -> None:
        """Make a loaded adapter the active one; the empty name is the bare base.

        Raises:
            ModelUnusable: it cannot be added to the base; the active one stays.
        """
        try:
            self._set(name)
        except BaseException:
            self._set_again()
            raise
        self.active = name

    def unload(self, name: str) -> None:
        """Unload an adapter that is not active, if it is loaded."""
        forget_adapter(self.pipe, name)

    def _set_again(self) -> None:
        """Make the active adapter the active one again, or the bare base if the adapter has become unusable."""
        try:
            self._set(self.active)
        except ModelUnusable:
            self._set("")
            self.active = ""

    def _set(self, name: str) -> None:
        if self.fused:
            self.fused.restore()
        if name:
            self.pipe.enable_lora()
            self.pipe.set_adapters(name)
            if self.fused:
                self.fused.fuse(name)
        elif self.pipe.get_list_adapters():
            self.pipe.disable_lora()

    def try_out(self, model: ModelConfig) -> None:
        """Render a test picture with the active adapter.

        Raises:
            ModelUnusable: that fails, or the picture is blank.
            torch.OutOfMemoryError: the device is out of memory, which is no fault of the adapter.
        """
        prompt = f"a picture in {model.trigger}"
        try:
            (picture,), _ = self.render([prompt], [0], model.serving.steps, model.serving.guidance)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ModelUnusable(self.active or "base", f"does not render: {error}") from error
        if fault := image_fault(picture):
            raise ModelUnusable(self.active or "base", f"renders a picture that is {fault}")

    @torch.inference_mode()
    def render(
        self,
        prompts: list[str],
        seeds: list[int],
        steps: int,
        guidance: float,
        size: int | tuple[int, int] | None = None,
        negatives: list[str] | None = None,
    ) -> tuple[list[Image.Image], float]:
        """Pictures of the prompts, one generator a picture, and the seconds each took; NaN is drawn black and marked.

        `size` is the side of a square, or width and height; `negatives` are prompts of what not to draw.

        Raises:
            ModelUnusable: the pipeline does not hold the adapter that it should render with.
        """
        if self.active and self.active not in self.pipe.get_active_adapters():
            raise ModelUnusable(self.active, "is not the active adapter of the pipeline")
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        width, height = size if isinstance(size, tuple) else (size, size)
        start = time.perf_counter()
        result = self.pipe(
            prompts,
            negative_prompt=negatives,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators,
            height=height,
            width=width,
            output_type="np",
        )
        return pictures_of(self.pipe, result.images), (time.perf_counter() - start) / len(prompts)


def pictures_of(pipe: Pipeline, images: npt.NDArray[np.float32]) -> list[Image.Image]:
    """Pictures of what a pipeline has drawn, [n, h, w, 3] in [0, 1]; NaN becomes black and is marked."""
    pictures: list[Image.Image] = pipe.image_processor.numpy_to_pil(np.nan_to_num(images))
    for picture, numbers in zip(pictures, images, strict=True):
        if not np.isfinite(numbers).all():
            picture.info[NAN] = True
    return pictures
