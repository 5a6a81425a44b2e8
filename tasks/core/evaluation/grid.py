"""Picture grids: rows are prompts, columns are seeds, champion left, challenger right."""

import io

from PIL import Image, ImageDraw, ImageFont

from tasks.core.evaluation.measures import Pictures

CELL = 96
GAP = 6
LABEL = 190


def comparison(left: Pictures, right: Pictures, titles: tuple[str, str], columns: int = 3) -> Image.Image:
    """Both sets side by side with their prompts."""
    rows = list(left)
    block = columns * (CELL + GAP)
    sheet = Image.new("RGB", (LABEL + 2 * block + GAP * 3, 24 + len(rows) * (CELL + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, title in enumerate(titles):
        draw.text((LABEL + i * (block + 2 * GAP), 5), title, "black", font)
    for y, prompt in enumerate(rows):
        top = 24 + y * (CELL + GAP)
        draw.multiline_text((4, top + 30), _wrap(prompt), "black", font)
        for i, pictures in enumerate((left[prompt], right[prompt])):
            for x, picture in enumerate(pictures[:columns]):
                place = (LABEL + i * (block + 2 * GAP) + x * (CELL + GAP), top)
                sheet.paste(picture.resize((CELL, CELL), Image.Resampling.LANCZOS), place)
    return sheet


def _wrap(text: str, width: int = 28) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def png(picture: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
