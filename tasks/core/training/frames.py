"""Frames: what is cut out of a picture, and at which size.

Squares, or aspect-ratio buckets (NovelAI, https://github.com/NovelAI/novelai-aspect-ratio-bucketing): shapes of about
the same area, of which a picture takes the one nearest to its own.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from tasks.core.training.spec import TrainSpec

Shape = tuple[int, int]  # height, width
MOST_STRETCH = 2  # times the resolution that a bucket's longer side may have


@dataclass(frozen=True)
class Frame:
    """Which of a picture's variants this is: the crop's number, and whether it is mirrored."""

    crop: int
    flip: bool

    def name(self, spec: TrainSpec) -> str:
        """What the outcome depends on beside the picture."""
        shape = f"{spec.resolution} buckets {spec.bucket_step}" if spec.buckets else f"{spec.resolution}"
        cut = f"random {self.crop}" if spec.crop == "random" else "center"
        return f"{shape} {cut} {'flip' if self.flip else ''}"


def frames(spec: TrainSpec) -> list[Frame]:
    """All variants of a picture."""
    crops = range(spec.crops if spec.crop == "random" else 1)
    return [Frame(crop, flip) for crop in crops for flip in ((False, True) if spec.flip else (False,))]


def shapes(resolution: int, step: int) -> list[Shape]:
    """The buckets: sides that are multiples of `step`, an area of at most resolution squared, at most 2 : 1 a side."""
    found = {(resolution, resolution)}
    for side in range(step, MOST_STRETCH * resolution + 1, step):
        other = resolution * resolution // side // step * step
        if step <= other <= MOST_STRETCH * resolution:
            found |= {(side, other), (other, side)}
    return sorted(found)


def shape_of(size: tuple[int, int], spec: TrainSpec) -> Shape:
    """The shape that a picture of this width and height takes; of two equally near ones the larger."""
    if not spec.buckets:
        return spec.resolution, spec.resolution
    aspect = math.log(size[1] / size[0])
    known = shapes(spec.resolution, spec.bucket_step)
    return min(known, key=lambda s: (round(abs(math.log(s[0] / s[1]) - aspect), 9), -s[0] * s[1]))


def cut(picture: Image.Image, sha256: str, frame: Frame, spec: TrainSpec) -> tuple[Image.Image, list[int]]:
    """The picture in its shape, and its sizes as SDXL is told them (`Family.time_ids`).

    A random crop is a function of the picture's content and the crop's number.
    """
    height, width = shape_of(picture.size, spec)
    chance = np.random.default_rng([int(sha256[:16], 16), frame.crop])
    at = (chance.random(), chance.random()) if spec.crop == "random" else (0.5, 0.5)
    fitted = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS, centering=at)
    scale = max(width / picture.width, height / picture.height)
    left, top = (picture.width * scale - width) * at[0], (picture.height * scale - height) * at[1]
    sizes = [picture.height, picture.width, round(top), round(left), height, width]
    return (ImageOps.mirror(fitted) if frame.flip else fitted), sizes
