"""Picture grids: rows are prompts, columns are seeds, champion left, challenger right."""

import io
import textwrap

from PIL import Image, ImageDraw, ImageFont

from tasks.core.evaluation.plan import EvaluationPlan
from tasks.core.evaluation.studio import Drawn

CELL = 128
GAP = 6
HEAD = 30
LABEL = 230
LETTERS = 32  # of a line of a label
COLUMNS = 3
ROWS = 16  # of a long set that many prompts are shown, spread evenly


class Album:
    """Small copies of what a model has drawn."""

    def __init__(self) -> None:
        self.pictures: dict[str, list[Image.Image]] = {}

    def add(self, drawn: Drawn) -> None:
        """Keep a prompt's first pictures."""
        small = [p.resize((CELL, CELL), Image.Resampling.LANCZOS) for p in drawn.pictures[:COLUMNS]]
        self.pictures[drawn.prompt] = small


def grids(albums: dict[str, Album], plan: EvaluationPlan, champion: str) -> dict[str, Image.Image]:
    """A grid of each kind of prompts that there are: fixed, drifted, general."""
    kinds = {"fixed": plan.fixed, "drifted": plan.drifted, "general": plan.class_prompts + plan.general}
    titles = (f"champion: {champion}", "challenger")
    pair = albums["champion"], albums["challenger"]
    return {kind: comparison(*pair, spread(prompts), titles) for kind, prompts in kinds.items() if prompts}


def spread(prompts: tuple[str, ...]) -> tuple[str, ...]:
    """At most ROWS of the prompts, from the first to the last."""
    if len(prompts) <= ROWS:
        return prompts
    return tuple(prompts[round(i * (len(prompts) - 1) / (ROWS - 1))] for i in range(ROWS))


def comparison(left: Album, right: Album, prompts: tuple[str, ...], titles: tuple[str, str]) -> Image.Image:
    """Both albums' pictures of the prompts side by side."""
    columns = max(len(left.pictures[prompt]) for prompt in prompts)
    block = columns * (CELL + GAP)
    sheet = Image.new("RGB", (LABEL + 2 * block + 3 * GAP, HEAD + len(prompts) * (CELL + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for side, (title, album) in enumerate(zip(titles, (left, right), strict=True)):
        begin = LABEL + side * (block + 3 * GAP)
        draw.text((begin, 7), title, "black", font)
        for row, prompt in enumerate(prompts):
            for column, picture in enumerate(album.pictures[prompt]):
                sheet.paste(picture, (begin + column * (CELL + GAP), HEAD + row * (CELL + GAP)))
    for row, prompt in enumerate(prompts):
        middle = HEAD + row * (CELL + GAP) + CELL // 2
        draw.text((6, middle), "\n".join(textwrap.wrap(prompt, LETTERS)), "black", font, anchor="lm")
    return sheet


def png(picture: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def light(grid: bytes) -> bytes:
    """A PNG as WebP of a tenth of its size, for pages that keep it in a database."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(grid)) as opened:
        opened.convert("RGB").save(buffer, "WEBP", quality=85)
    return buffer.getvalue()
