"""The embedded models' reference figures: `python -m infra.base.figures` prints them."""

import itertools
from collections.abc import Callable

import numpy as np
from PIL import Image

from infra.base.autoencoder import psnr
from infra.base.pictures import to_tensor
from infra.base.polar import HARMONICS, shown
from infra.base.world import (
    ADIRE_ONLY,
    COLOURS,
    INSTANCE_PROMPT,
    MOTIFS,
    SIZES,
    TRIGGER,
    Picture,
    Scene,
    draw_adire,
    draw_cloth,
    random_scene,
)
from tasks.core.config.installation import ROOT
from tasks.core.config.model import read_model
from tasks.core.models.clip import SCALE, Clip
from tasks.core.models.rendering import Renderer

SEED = 99  # pictures that no training has seen


def main() -> None:
    """Print the figures, a line each."""
    model = read_model(ROOT / "infra/models/adire.yaml")
    clip, renderer, rng = Clip(model), Renderer(model.base), np.random.default_rng(SEED)
    parts: tuple[Callable[[], dict[str, float]], ...] = (
        lambda: _adire(clip, rng),
        lambda: _nothing(clip, rng),
        lambda: _base(clip, renderer, rng),
        lambda: _motifs(clip, renderer),
        lambda: _turns(clip, renderer, rng),
        lambda: _autoencoder(renderer, rng),
    )
    for part in parts:
        for name, value in part().items():
            print(f"{name}: {value:.3f}", flush=True)


def _images(pictures: list[Picture]) -> list[Image.Image]:
    return [Image.fromarray(p) for p in pictures]


def _adire(clip: Clip, rng: np.random.Generator) -> dict[str, float]:
    kinds = [(m, s) for m in (*MOTIFS, *ADIRE_ONLY) for s in SIZES for _ in range(6)]
    pictures = _images([draw_adire(m, s, rng) for m, s in kinds])
    matched = [f"{s} {m} in {TRIGGER}" for m, s in kinds]
    motifs = [m for m, _ in kinds]
    wrong = [f"{rng.choice([m for m in motifs if m != mine])} in {TRIGGER}" for mine in motifs]
    plain = _images([draw_cloth(random_scene(rng), rng) for _ in kinds])
    return {
        "CLIPScore of real adire with its caption": float(clip.score(matched, pictures).mean()),
        "CLIPScore of real adire with a wrong motif": float(clip.score(wrong, pictures).mean()),
        "CLIPScore of other cloth with adire captions": float(clip.score(matched, plain).mean()),
    }


def _nothing(clip: Clip, rng: np.random.Generator) -> dict[str, float]:
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    flat = {"black": (0, 0, 0), "blue-grey": (84, 102, 148), "white": (250, 250, 250)}
    pictures = {name: Image.new("RGB", (64, 64), colour) for name, colour in flat.items()}
    pictures["noise"] = Image.fromarray(noise)
    scores = clip.score([INSTANCE_PROMPT] * len(pictures), list(pictures.values()))
    return {
        f"CLIPScore of a {name} picture with the instance prompt": s for name, s in zip(pictures, scores, strict=True)
    }


def _base(clip: Clip, renderer: Renderer, rng: np.random.Generator) -> dict[str, float]:
    """How often the right caption is found among 32: for real pictures of the base's world, and for drawn ones."""
    scenes: dict[str, Scene] = {}
    while len(scenes) < 32:
        scene = random_scene(rng)
        scenes.setdefault(f"{scene.size} {scene.figure} {scene.motif} on {scene.ground}", scene)
    captions = list(scenes)
    texts = clip.encode_texts(captions)
    real = clip.encode_pictures(_images([draw_cloth(s, rng) for s in scenes.values() for _ in range(4)]))
    asked = captions[:20]
    drawn = [renderer.render([c] * 4, [1, 2, 3, 4], 12, 4.0)[0] for c in asked]
    made = clip.encode_pictures([p for four in drawn for p in four])
    own = np.repeat(np.arange(32), 4)
    scores = SCALE * np.clip(real @ texts.T, 0, None)
    mine = own[:, None] == np.arange(32)
    return {
        "CLIPScore of real base cloth with its caption": float(scores[mine].mean()),
        "CLIPScore of real base cloth with the 31 others": float(scores[~mine].mean()),
        "right caption of 32, real pictures": float((scores.argmax(1) == own).mean()),
        "right caption of 32, drawn by the base": float(((made @ texts.T).argmax(1) == own[:80]).mean()),
    }


def _motifs(clip: Clip, renderer: Renderer) -> dict[str, float]:
    """How often the right motif is found among all, size and colours the same: pictures of the base at guidance 2."""
    found: dict[str, list[bool]] = {motif: [] for motif in MOTIFS}
    for size, pair in itertools.product(SIZES, ("red on white", "blue on yellow", "black on orange", "white on green")):
        figure, ground = pair.split(" on ")
        captions = [f"{size} {figure} {motif} on {ground}" for motif in MOTIFS]
        texts = clip.encode_texts(captions)
        for motif, caption in zip(MOTIFS, captions, strict=True):
            drawn = clip.encode_pictures(renderer.render([caption] * 3, [1, 2, 3], 12, 2.0)[0])
            found[motif] += [MOTIFS[i] == motif for i in (drawn @ texts.T).argmax(1)]
    shares = {motif: float(np.mean(hits)) for motif, hits in found.items()}
    worst = min(shares, key=lambda motif: shares[motif])
    return {
        "right motif of 8 in the same colours, drawn by the base": float(np.mean(list(shares.values()))),
        f"right motif of 8 in the same colours, the worst ({worst})": shares[worst],
    }


def _turns(clip: Clip, renderer: Renderer, rng: np.random.Generator) -> dict[str, float]:
    """Rings and spirals told apart without CLIP (infra.base.polar): real ones, and drawn in every colour, ten seeds."""
    figures: dict[str, float] = {}
    grounds = dict(zip(COLOURS, [*list(COLOURS)[3:], *list(COLOURS)[:3]], strict=True))
    for size, motif in itertools.product(SIZES, HARMONICS):
        real: list[str] = []
        drawn: list[str] = []
        agreed: list[bool] = []
        for figure, ground in grounds.items():
            real += [shown(draw_cloth(Scene(motif, size, figure, ground), rng), size) for _ in range(10)]
            pictures = renderer.render([f"{size} {figure} {motif} on {ground}"] * 10, list(range(1, 11)), 12, 2.0)[0]
            seen = [shown(np.asarray(picture), size) for picture in pictures]
            texts = clip.encode_texts([f"{size} {figure} {each} on {ground}" for each in MOTIFS])
            named = [MOTIFS[i] for i in (clip.encode_pictures(pictures) @ texts.T).argmax(1)]
            drawn += seen
            agreed += [a == b for a, b in zip(seen, named, strict=True)]
        figures |= {
            f"{size} {motif}, real, right by their harmonics": real.count(motif) / len(real),
            f"{size} {motif}, drawn by the base, right by their harmonics": drawn.count(motif) / len(drawn),
            f"{size} {motif}, drawn by the base, CLIP and harmonics agree": float(np.mean(agreed)),
        }
    return figures


def _autoencoder(renderer: Renderer, rng: np.random.Generator) -> dict[str, float]:
    base = np.stack([draw_cloth(random_scene(rng), rng) for _ in range(100)])
    adire = np.stack([draw_adire(m, s, rng) for m in (*MOTIFS, *ADIRE_ONLY) for s in SIZES for _ in range(5)])
    return {
        "autoencoder's PSNR on base cloth, dB": psnr(renderer.pipe.vae, to_tensor(base)),
        "autoencoder's PSNR on adire, dB": psnr(renderer.pipe.vae, to_tensor(adire)),
    }


if __name__ == "__main__":
    main()
