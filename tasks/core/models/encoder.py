"""The model behind CLIP, by open_clip. Importing this takes some ten seconds of CPU: `clip` does so late."""

from pathlib import Path

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from torch import Tensor

from tasks.core.config.model import EMBEDDED
from tasks.core.errors import ModelUnusable
from tasks.core.models.device import pick_device
from tasks.core.models.identity import EMBEDDED_FOLDER

BATCH = 64


class Encoder:
    """A text and an image tower with a common space; all embeddings are L2-normalised float32 on the CPU."""

    def __init__(self, scorer: str, device: str = "") -> None:
        self.device = pick_device(device)
        embedded = scorer == EMBEDDED
        folder = EMBEDDED_FOLDER / "clip"
        name, tag = (f"local-dir:{folder}", None) if embedded else _name_and_tag(scorer)
        try:
            model, _, self.preprocess = open_clip.create_model_and_transforms(name, pretrained=tag)
            self.tokenizer = _embedded_tokenizer(folder) if embedded else open_clip.get_tokenizer(name)
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelUnusable(scorer, f"open_clip cannot load it: {error}; check the model's scorer") from error
        self.model = model.eval().to(self.device)

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> Tensor:
        """[n, d]; n at least 1."""
        parts = (self.tokenizer(texts[i : i + BATCH]).to(self.device) for i in range(0, len(texts), BATCH))
        return torch.cat([self.model.encode_text(part, normalize=True).float().cpu() for part in parts])

    @torch.inference_mode()
    def pictures(self, pictures: list[Image.Image]) -> Tensor:
        """[n, d]; n at least 1."""
        parts = []
        for i in range(0, len(pictures), BATCH):
            batch = torch.stack([self.preprocess(p) for p in pictures[i : i + BATCH]]).to(self.device)
            parts.append(self.model.encode_image(batch, normalize=True).float().cpu())
        return torch.cat(parts)


def _name_and_tag(clip: str) -> tuple[str, str | None]:
    """Model and tag for open_clip: MODEL/TAG, or one of its schemes, which name the weights.

    Raises:
        ModelUnusable: a model without a tag, which open_clip would fill with random weights.
    """
    if clip.startswith(("local-dir:", "hf-hub:")):
        return clip, None
    name, _, tag = clip.partition("/")
    if not tag:
        raise ModelUnusable(clip, "it names no weights; a scorer is MODEL/TAG, such as ViT-L-14/openai")
    return name, tag


def _embedded_tokenizer(folder: Path) -> SimpleTokenizer:
    return SimpleTokenizer(str(folder / "merges.txt.gz"), context_length=32)
