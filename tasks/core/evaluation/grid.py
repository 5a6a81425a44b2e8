"""Picture grids: rows are prompts, columns are seeds, champion left, challenger right."""

import textwrap
from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

from tasks.core.evaluation.plan import EvaluationPlan
from tasks.core.evaluation.session import RenderedPrompt

CELL = 128
GAP = 6
HEAD = 30
LABEL = 230
LETTERS = 32  # of a line of a label
COLUMNS = 3
SAMPLES = 6
ROWS = 16  # of a long set that many prompts are shown, spread evenly


class Thumbnails:
    """Thumbnails of a model's renders."""

    def __init__(self) -> None:
        self.pictures: dict[str, list[Image.Image]] = {}

    def add(self, drawn: RenderedPrompt) -> None:
        """Store a prompt's first pictures."""
        small = [p.resize((CELL, CELL), Image.Resampling.LANCZOS) for p in drawn.pictures[:COLUMNS]]
        self.pictures[drawn.prompt] = small


def grids(albums: dict[str, Thumbnails], plan: EvaluationPlan, champion: str) -> dict[str, Image.Image]:
    """A grid of each kind of prompts that there are: fixed, drifted, general."""
    kinds = {"fixed": plan.fixed, "drifted": plan.drifted, "general": plan.class_prompts + plan.general}
    blocks = {f"champion: {champion}": albums["champion"], "challenger": albums["challenger"]}
    return {kind: sheet(blocks, spread(prompts)) for kind, prompts in kinds.items() if prompts}


def spread(prompts: tuple[str, ...], rows: int = ROWS) -> tuple[str, ...]:
    """At most so many of the prompts, from the first to the last."""
    if len(prompts) <= rows:
        return prompts
    return tuple(prompts[round(i * (len(prompts) - 1) / (rows - 1))] for i in range(rows))


def samples(album: Thumbnails, plan: EvaluationPlan) -> Image.Image:
    """A model's pictures of some fixed prompts, for its card."""
    return sheet({"": album}, spread(plan.fixed, SAMPLES))


def sheet(blocks: Mapping[str, Thumbnails], prompts: tuple[str, ...]) -> Image.Image:
    """The pictures that each album has of the prompts, albums side by side under their titles."""
    columns = max(len(album.pictures[prompt]) for album in blocks.values() for prompt in prompts)
    width = columns * (CELL + GAP) + 3 * GAP
    page = Image.new("RGB", (LABEL + len(blocks) * width - 3 * GAP, HEAD + len(prompts) * (CELL + GAP)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for place, (title, album) in enumerate(blocks.items()):
        begin = LABEL + place * width
        draw.text((begin, 7), title, "black", font)
        for row, prompt in enumerate(prompts):
            for column, picture in enumerate(album.pictures[prompt]):
                page.paste(picture, (begin + column * (CELL + GAP), HEAD + row * (CELL + GAP)))
    for row, prompt in enumerate(prompts):
        middle = HEAD + row * (CELL + GAP) + CELL // 2
        draw.text((6, middle), "\n".join(textwrap.wrap(prompt, LETTERS)), "black", font, anchor="lm")
    return page
