"""CLIP: scores pictures against prompts and embeds prompts, by open_clip."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

from tasks.core.device import pick_device
from tasks.core.errors import ModelUnusable
from tasks.core.models import scorer_fingerprint
from tasks.core.settings import EMBEDDED, EMBEDDED_FOLDER, Settings

Embeddings = npt.NDArray[np.float32]
SCALE = 2.5  # of CLIPScore, Hessel et al. 2021, https://arxiv.org/abs/2104.08718
PREFIX = "A photo depicts "  # of CLIPScore, for public models
BATCH = 64


class Clip:
    """A text and an image encoder with a common space; all embeddings are L2-normalised float32."""

    def __init__(self, settings: Settings) -> None:
        self.device = pick_device(settings)
        self.embedded = settings.clip == EMBEDDED
        self.prefix = "" if self.embedded else PREFIX
        self.trigger, self.noun = settings.trigger, settings.class_noun
        name, _, tag = settings.clip.partition("/")
        folder = EMBEDDED_FOLDER / "clip"
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                f"local-dir:{folder}" if self.embedded else name, pretrained=None if self.embedded else tag
            )
            self.tokenizer = _embedded_tokenizer(folder) if self.embedded else open_clip.get_tokenizer(name)
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelUnusable(settings.clip, f"open_clip cannot load it: {error}; check DYEWORKS_CLIP") from error
        self.model, self.preprocess = model.eval().to(self.device), preprocess
        self.hash = scorer_fingerprint(settings)

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> Embeddings:
        """float32 [n, d]; equal texts are embedded once."""
        distinct = list(dict.fromkeys(texts))
        parts = [
            self.model.encode_text(self.tokenizer(distinct[i : i + BATCH]).to(self.device), normalize=True)
            for i in range(0, len(distinct), BATCH)
        ]
        rows = dict(zip(distinct, torch.cat(parts).float().cpu().numpy(), strict=True)) if parts else {}
        return np.array([rows[t] for t in texts], np.float32)

    @torch.inference_mode()
    def encode_pictures(self, pictures: list[Image.Image]) -> Embeddings:
        """float32 [n, d]."""
        parts = []
        for i in range(0, len(pictures), BATCH):
            batch = torch.stack([self.preprocess(p) for p in pictures[i : i + BATCH]]).to(self.device)
            parts.append(self.model.encode_image(batch, normalize=True).float().cpu())
        return np.asarray(torch.cat(parts).numpy(), np.float32)

    def score(self, prompts: list[str], pictures: list[Image.Image]) -> npt.NDArray[np.float64]:
        """CLIPScore 2.5 * max(cos, 0) of each picture with its prompt, float64 [n].

        Public models do not know the trigger word: the class noun stands in its place.
        """
        texts = [self.prefix + (p if self.embedded else p.replace(self.trigger, self.noun)) for p in prompts]
        cosines = np.sum(self.encode_texts(texts) * self.encode_pictures(pictures), axis=1, dtype=np.float64)
        return SCALE * np.clip(cosines, 0, None)


def _embedded_tokenizer(folder: Path) -> SimpleTokenizer:
    return SimpleTokenizer(str(folder / "merges.txt.gz"), context_length=32)
