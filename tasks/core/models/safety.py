"""The safety checker: which rendered pictures are not fit to be shown. Fails closed."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors import SafetensorError
from transformers import CLIPImageProcessor

from tasks.core.errors import DyeworksError, ModelUnusable
from tasks.core.models.device import pick_device
from tasks.core.models.identity import locate

PARTS = ("safety_checker", "feature_extractor")  # folders of a pipeline
WEIGHTS = "model.safetensors"
BATCH = 16  # squares that are checked at once
ADVICE = (
    "nothing is shown unchecked: set DYEWORKS_SAFETY_CHECKER to a folder or Hub revision with safetensors weights, "
    "or serving.safety: false in the model's file"
)


class PicturesUnchecked(DyeworksError):
    """Pictures could not be checked, which is no fault of the release: none of them may be shown."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the safety checker failed: {problem}; its pictures are not shown")
        self.problem = problem


def checker_source(base: str, setting: str) -> str:
    """The name to load a base's checker by: its own folder where that holds one as safetensors, else the setting."""
    own = Path(base) / PARTS[0] / WEIGHTS
    return base if own.is_file() else setting


class SafetyChecker:
    """Stable Diffusion's checker, in single precision wherever it runs, so that devices agree. For one thread.

    `name` is a folder of the checker alone or of a pipeline that holds one, or a Hub id with or without @revision.

    Raises:
        ModelUnusable: it cannot be loaded, has no safetensors weights, or lacks some of them.
    """

    def __init__(self, name: str, device: str = "") -> None:
        self.name, self.device = name, pick_device(device)
        try:
            self.model, self.processor = _load(name)
        except (ModelUnusable, OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelUnusable(name, f"is no safety checker that can be loaded: {error}; {ADVICE}") from error
        self.model.visual_projection.register_forward_hook(_require_finite)
        self.model.to(self.device).eval()

    def flags(self, images: Sequence[Image.Image]) -> list[bool]:
        """Whether each picture is unfit to be shown.

        Raises:
            PicturesUnchecked: whatever went wrong; no picture may be shown then.
            torch.OutOfMemoryError: the device is out of memory; fewer pictures may fit.
        """
        try:
            squares = [(i, square) for i, image in enumerate(images) for square in _squares(image)]
            batches = [squares[at : at + BATCH] for at in range(0, len(squares), BATCH)]
            unfit = {i for batch in batches for i in self._unfit(batch)}
        except torch.OutOfMemoryError:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            raise PicturesUnchecked(str(error)) from error
        return [i in unfit for i in range(len(images))]

    @torch.inference_mode()
    def _unfit(self, squares: list[tuple[int, Image.Image]]) -> list[int]:
        """The numbers of the squares that are unfit."""
        pixels = self.processor(images=[square for _, square in squares], return_tensors="pt").pixel_values
        blackened = list(torch.zeros(len(squares), 1))  # the checker blackens what it is given beside the pixels
        verdicts = self.model(images=blackened, clip_input=pixels.to(self.device))[1]
        return [i for (i, _), unfit in zip(squares, verdicts, strict=True) if unfit]


def _load(name: str) -> tuple[StableDiffusionSafetyChecker, CLIPImageProcessor]:
    place, revision = locate(name)
    checker, extractor = PARTS if (Path(place) / PARTS[0]).is_dir() else ("", "")
    options = {"revision": revision or "main"}
    model, report = StableDiffusionSafetyChecker.from_pretrained(
        place, subfolder=checker, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
    )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"it lacks {len(missing)} weights, such as {missing[0]}")
    if faulty := [key for key, value in model.state_dict().items() if not value.isfinite().all()]:
        raise ValueError(f"{faulty[0]} is not finite")
    return model, CLIPImageProcessor.from_pretrained(place, subfolder=extractor, **options)


def _require_finite(module: torch.nn.Module, inputs: object, embeddings: torch.Tensor) -> None:
    """Refuse embeddings that are not numbers: no threshold is exceeded by them."""
    if not embeddings.isfinite().all():
        raise PicturesUnchecked("its embeddings are not finite")


def _squares(image: Image.Image) -> list[Image.Image]:
    """Squares that cover a picture, one of them in its middle: of what it is given, the checker sees that alone."""
    picture, side = image.convert("RGB"), min(image.size)
    count = math.ceil(max(image.size) / side) | 1
    steps = [i / max(1, count - 1) for i in range(count)]
    corners = [(round(step * (image.width - side)), round(step * (image.height - side))) for step in steps]
    return [picture.crop((x, y, x + side, y + side)) for x, y in corners]
