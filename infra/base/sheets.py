"""Contact sheets of the embedded world: `python -m infra.base.sheets` writes docs/world.png and docs/drawn.png."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from infra.base.world import ADIRE_ONLY, COLOURS, MOTIFS, SIZES, Scene, draw_adire, draw_cloth
from tasks.core.config.model import EMBEDDED
from tasks.core.models.rendering import Renderer

CELL, GAP, LABEL, HEAD = 112, 8, 128, 30
SEED = 4
Row = tuple[str, list[Image.Image | None]]


def sheet(rows: list[Row], columns: tuple[str, ...]) -> Image.Image:
    """Rows of pictures under their columns' names; None leaves a cell empty."""
    size = (LABEL + len(columns) * (CELL + GAP) + GAP, HEAD + len(rows) * (CELL + GAP) + GAP)
    page = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for x, name in enumerate(columns):
        draw.text((LABEL + x * (CELL + GAP) + CELL / 2, HEAD - 8), name, "black", font, anchor="ms")
    for y, (label, pictures) in enumerate(rows):
        top = HEAD + y * (CELL + GAP)
        draw.multiline_text((10, top + CELL / 2), label, "black", font, anchor="lm")
        for x, picture in enumerate(pictures):
            if picture:
                scaled = picture.resize((CELL, CELL), Image.Resampling.LANCZOS)
                page.paste(scaled, (LABEL + x * (CELL + GAP), top))
    return page


def world() -> Image.Image:
    """Real pictures: every motif and size, in dyes and in adire."""
    rng = np.random.default_rng(SEED)
    rows: list[Row] = []
    for size in SIZES:
        scenes = _scenes(size, rng)
        drawn: list[Image.Image | None] = [Image.fromarray(draw_cloth(s, rng)) for s in scenes]
        rows.append((f"{size},\nbase", [*drawn, *[None] * len(ADIRE_ONLY)]))
    for size in SIZES:
        for _ in range(2):
            rows.append(
                (f"{size},\nadire", [Image.fromarray(draw_adire(m, size, rng)) for m in (*MOTIFS, *ADIRE_ONLY)])
            )
    return sheet(rows, (*MOTIFS, *ADIRE_ONLY))


def drawn(renderer: Renderer) -> Image.Image:
    """What the bare base draws: every motif and size, two seeds each."""
    rng = np.random.default_rng(SEED)
    rows: list[Row] = []
    for size in SIZES:
        scenes = _scenes(size, rng)
        prompts = [f"{s.size} {s.figure} {s.motif} on {s.ground}" for s in scenes]
        for seed in (1, 2):
            pictures, _ = renderer.render(prompts, [seed] * len(prompts), steps=12, guidance=2.0)
            rows.append((f"{size},\nseed {seed}", list(pictures)))
    return sheet(rows, MOTIFS)


def _scenes(size: str, rng: np.random.Generator) -> list[Scene]:
    """A scene of each motif, in colours of its own."""
    pairs = [rng.choice(list(COLOURS), 2, replace=False) for _ in MOTIFS]
    return [Scene(m, size, str(a), str(b)) for m, (a, b) in zip(MOTIFS, pairs, strict=True)]


def main() -> None:
    """Write both sheets."""
    for name, page in (("world", world()), ("drawn", drawn(Renderer(EMBEDDED)))):
        path = Path("docs") / f"{name}.png"
        page.quantize(255, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
