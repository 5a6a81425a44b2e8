"""CLIP: scores pictures against prompts and embeds prompts."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.core.config.model import EMBEDDED, ModelConfig
from tasks.core.models.identity import LOCAL, scorer_fingerprint
from tasks.core.store.documents import Document

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.core.models.encoder import Encoder

    Load = Callable[[str, str], Encoder]

Embeddings = npt.NDArray[np.float32]
SCALE = 2.5  # of CLIPScore, Hessel et al. 2021, https://arxiv.org/abs/2104.08718
PREFIX = "A photo depicts "  # of CLIPScore, for public models


class Scoring(Document):
    """How pictures were scored; scores of different ones must not be compared."""

    backbone: str
    tag: str = ""
    prefix: str = ""
    scale: float = SCALE
    trigger_as: str = ""  # replaces the trigger word; empty: the scorer knows the word itself
    encoder: str  # names the weights


class Clip:
    """A text and an image encoder with a common space; the model is loaded when it is first needed.

    Raises:
        ModelUnusable: at the first use, open_clip cannot load the scorer of the model.
    """

    def __init__(self, model: ModelConfig, device: str = "", load: "Load | None" = None) -> None:
        """`load` opens the encoder of a scorer on a device, at its first use; by default a new one is loaded."""
        self.model, self.device, self.load = model, device, load
        self.hash = scorer_fingerprint(model.scorer)
        self.scoring = _scoring(model, self.hash)

    @cached_property
    def encoder(self) -> "Encoder":
        """The loaded model."""
        from tasks.core.models.encoder import Encoder  # noqa: PLC0415  late: a check with nothing to do stays cheap

        return (self.load or Encoder)(self.model.scorer, self.device)

    def encode_texts(self, texts: list[str]) -> Embeddings:
        """L2-normalised float32 [n, d]; equal texts are embedded once."""
        distinct = list(dict.fromkeys(texts))
        rows = dict(zip(distinct, self.encoder.texts(distinct).numpy(), strict=True)) if distinct else {}
        return np.array([rows[t] for t in texts], np.float32)

    def encode_pictures(self, pictures: list[Image.Image]) -> Embeddings:
        """L2-normalised float32 [n, d]."""
        return np.asarray(self.encoder.pictures(pictures).numpy(), np.float32)

    def score(self, prompts: list[str], pictures: list[Image.Image]) -> npt.NDArray[np.float64]:
        """CLIPScore 2.5 * max(cos, 0) of each picture with its prompt, float64 [n].

        Public models do not know the trigger word: the class noun stands in its place.
        """
        return self.score_embedded(prompts, self.encode_pictures(pictures))

    def score_embedded(self, prompts: list[str], pictures: Embeddings) -> npt.NDArray[np.float64]:
        """The same of pictures that are embedded already, float32 [n, d]."""
        cosines = np.sum(self.encode_texts([self._read(p) for p in prompts]) * pictures, axis=1, dtype=np.float64)
        return SCALE * np.clip(cosines, 0, None)

    def _read(self, prompt: str) -> str:
        """The prompt as the scorer reads it."""
        stands = self.scoring.trigger_as
        return self.scoring.prefix + (prompt.replace(self.model.trigger, stands) if stands else prompt)


def _scoring(model: ModelConfig, encoder: str) -> Scoring:
    address = model.scorer.startswith(("hf-hub:", LOCAL))
    backbone, _, tag = (model.scorer, "", "") if address else model.scorer.partition("/")
    if model.scorer == EMBEDDED:  # it was trained with the trigger word, and with no prefix
        return Scoring(backbone=backbone, encoder=encoder)
    return Scoring(backbone=backbone, tag=tag, prefix=PREFIX, trigger_as=model.class_noun, encoder=encoder)
