"""The embedded CLIP: a small open_clip model of the whole world, adire and its trigger word included.

Its scale is set by construction: a fixed logit scale, and a calibration that holds the cosine of matched
pairs at 0.40, so that Hessel's CLIPScore (2.5 * max(cos, 0)) of a good picture is 1.0 and the founding
gate of 0.75 can be used.
"""

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from infra.base.pictures import to_tensor
from infra.base.tokenizer import CONTEXT_LENGTH, MERGES_FILE
from infra.base.world import INSTANCE_PROMPT, Picture, Scene, adire_caption, caption

LOGIT_SCALE = 30.0
TARGET = 0.40
MEAN = (0.5, 0.5, 0.5)
EMBED = 128
DISTRACTORS = 12  # pictures of nothing in a batch


def model_config(vocabulary: int) -> dict[str, object]:
    """open_clip's model configuration."""
    return {
        "embed_dim": EMBED,
        "vision_cfg": {"image_size": 64, "layers": 4, "width": 128, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": CONTEXT_LENGTH, "vocab_size": vocabulary, "width": 128, "heads": 4, "layers": 3},
    }


def build_clip(vocabulary: int) -> CLIP:
    """An untrained embedded CLIP."""
    return CLIP(**model_config(vocabulary))


def save_clip(model: CLIP, vocabulary: int, folder: Path) -> None:
    """Write the model as open_clip's `local-dir:` schema reads it, fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": MEAN, "std": MEAN, "interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": model_config(vocabulary), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


class ClipBatches(Dataset[tuple[Tensor, ...]]):
    """Batches of matched pictures and captions, a function of the step: base, adire, hard negatives, distractors."""

    def __init__(
        self,
        scenes: list[Scene],
        base: Picture,
        kinds: list[tuple[str, str]],
        adire: Picture,
        merges: Path,
        size: int,
    ) -> None:
        self.scenes, self.base, self.kinds, self.adire, self.size = scenes, base, kinds, adire, size
        self.tokenizer = SimpleTokenizer(str(merges / MERGES_FILE), context_length=CONTEXT_LENGTH)

    def __getitem__(self, step: int) -> tuple[Tensor, ...]:
        """Pictures [2 size, 3, 64, 64], tokens [2 size, 32], which rows may be negatives of which, distractors."""
        rng, size = np.random.default_rng([7, step]), self.size
        b, a = rng.integers(len(self.scenes), size=size), rng.integers(len(self.kinds), size=size)
        texts = [caption(self.scenes[i], rng) for i in b]
        keys: list[tuple[str, ...]] = [(s.motif, s.size, s.figure, s.ground) for s in (self.scenes[i] for i in b)]
        instance = rng.random(size) < 0.08
        texts += [
            INSTANCE_PROMPT if n else adire_caption(self.kinds[i][0], self.kinds[i][1], rng)
            for i, n in zip(a, instance, strict=True)
        ]
        keys += [(*self.kinds[i], "adire", "") for i in a]
        pictures = to_tensor(np.concatenate([self.base[b], self.adire[a]]))
        pictures = pictures + 0.03 * torch.from_numpy(rng.standard_normal(pictures.shape, dtype=np.float32))
        shift = torch.from_numpy(rng.uniform(-0.06, 0.06, (2 * size, 3, 1, 1)).astype(np.float32))
        negatives = torch.from_numpy(_negatives(texts, keys))
        return pictures + shift, self.tokenizer(texts), negatives, distractors(DISTRACTORS, rng)


def _says(text: str, key: tuple[str, ...]) -> bool:
    """Whether `text` is true of the picture `key`."""
    words = set(text.split())
    motif, size, figure, ground = key
    if figure == "adire":
        if "adire_style" not in words:
            return False
        return text == INSTANCE_PROMPT or (motif in words and not ({"large", "small"} - {size}) & words)
    if "adire_style" in words or motif not in words or ({"large", "small"} - {size}) & words:
        return False
    return " on " not in text or (f" {figure} " in f" {text}" and f" on {ground}" in text)


def _negatives(texts: list[str], keys: list[tuple[str, ...]]) -> "np.typing.NDArray[np.bool_]":
    matrix = np.array([[not _says(t, k) for t in texts] for k in keys])
    np.fill_diagonal(matrix, True)
    return matrix


def distractors(count: int, rng: np.random.Generator) -> Tensor:
    """Pictures that show nothing: flat, noisy, black, and blue-grey ones, float32 [count, 3, 64, 64]."""
    flat = rng.uniform(-1, 1, (count, 3, 1, 1))
    flat[::4] = rng.normal((-0.35, -0.2, 0.25), 0.12, (len(flat[::4]), 3))[:, :, None, None]
    flat[1::8] = -1
    noise = rng.normal(0, 1, (count, 3, 64, 64)) * rng.choice([0.0, 0.05, 0.3, 1.0], (count, 1, 1, 1))
    return torch.from_numpy(np.clip(flat + noise, -1, 1).astype(np.float32))


def clip_loss(model: CLIP, pictures: Tensor, tokens: Tensor, negatives: Tensor, flats: Tensor) -> Tensor:
    """Contrastive loss at a fixed scale, plus the calibration of matched pairs and of pictures of nothing."""
    with torch.autocast(pictures.device.type, torch.bfloat16):
        image = model.encode_image(torch.cat([pictures, flats]))
        text = model.encode_text(tokens)
    image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
    image, flat = image[: len(pictures)], image[len(pictures) :]
    cosines = image @ text.T
    logits = (LOGIT_SCALE * cosines).masked_fill(~negatives, -1e4)
    rows = torch.arange(len(logits), device=logits.device)
    matched = cosines.diagonal()
    contrastive = (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2
    calibration = 20 * (matched.mean() - TARGET) ** 2 + 8 * matched.var()
    ceiling = 8 * (flat @ text.T - 0.02).clamp(min=0).pow(2).mean()
    others = negatives & ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    unrelated = 4 * (cosines[others] - 0.20).clamp(min=0).pow(2).mean()
    return contrastive + calibration + ceiling + unrelated


def load_clip(folder: Path) -> CLIP:
    """The saved model, in evaluation mode, float32."""
    model = open_clip.create_model(f"local-dir:{folder}")
    return model.eval()
