"""Training material: latents and text embeddings, computed once and cached by the hash of their content."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tasks.core.config.training import TrainSpec
from tasks.core.data.dataset import Item, decoded
from tasks.core.data.picture_validation import square
from tasks.core.models.families import Family, Texts
from tasks.core.store import Store
from tasks.core.training.latent_cache import Tensors, name_of, shelve

Shape = tuple[int, int]  # height, width
MOST_STRETCH = 2  # times the resolution that a bucket's longer side may have


@dataclass(frozen=True)
class Frame:
    """Which of a picture's variants this is: the crop's number, and whether it is mirrored."""

    crop: int
    flip: bool

    def name(self, spec: TrainSpec) -> str:
        """What the result depends on beside the picture."""
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
    """The picture in its shape, and its sizes for SDXL (`Family.time_ids`).

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


CUTTING = "2"  # raise it when decoding or cropping changes
TEXTS = 16  # encoded at once


@dataclass(frozen=True)
class TrainingPicture:
    """A picture to learn: named by its content, decoded only when its latents are not cached."""

    sha256: str
    caption: str
    decode: Callable[[], Image.Image]


@dataclass(frozen=True)
class Lesson:
    """The pictures to learn, how often each is drawn, and those that are held out."""

    pictures: Sequence[TrainingPicture]
    weights: npt.NDArray[np.float64]  # [n], sums to 1
    held: Sequence[TrainingPicture] = ()


@dataclass(frozen=True)
class Material:
    """Of each picture its variants in turn, with `mean`, `deviation` [c, h, w] and `sizes` [6]; and its text."""

    latents: Sequence[Tensors]
    texts: Sequence[Texts]
    text_of: list[int]
    variants: int = 1

    def __len__(self) -> int:
        return len(self.text_of)

    def take(self, row: int, variant: int = 0) -> tuple[Tensors, Texts]:
        """Latents and text of a picture, float32, on the CPU."""
        return self.latents[row * self.variants + variant], self.texts[self.text_of[row]]

    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each picture's latents."""
        return [tuple(self.latents[row * self.variants]["mean"].shape) for row in range(len(self))]

    def enlarged(self) -> str:
        """How many pictures are enlarged to be trained on, and which one most; empty when none is."""
        sizes = [self.latents[row * self.variants]["sizes"].tolist() for row in range(len(self))]
        scales = [max(size[4] / size[0], size[5] / size[1]) for size in sizes]
        count = sum(scale > 1 for scale in scales)
        if not count:
            return ""
        height, width, _, _, to_height, to_width = sizes[scales.index(max(scales))]
        most = f"the smallest from {width} x {height} to {to_width} x {to_height}"
        return f"{count} of {len(self)} pictures are enlarged, {most}; they are blurred in the training"


def drawn(image: Image.Image, caption: str) -> TrainingPicture:
    """A picture that is in memory."""
    return TrainingPicture(
        hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest(), caption, lambda: image
    )


def stored(store: Store, dataset: str, item: Item) -> TrainingPicture:
    """A picture of a dataset version."""

    def read() -> Image.Image:
        ((_, picture),) = decoded(store, dataset, (item,))
        return picture

    return TrainingPicture(item.sha256, item.caption, read)


def load_pictures(store: Store, dataset: str, items: tuple[Item, ...], side: int) -> list[Image.Image]:
    """The items' pictures as squares of `side` pixels."""
    return [square(picture, side) for _, picture in decoded(store, dataset, items)]


def prepare(family: Family, pictures: Sequence[TrainingPicture], spec: TrainSpec, cache: Path) -> Material:
    """Encode what is not in the cache with the base model's own encoders."""
    kinds = frames(spec)
    wanted = [(picture, frame) for picture in pictures for frame in kinds]
    names = [name_of(CUTTING, picture.sha256, frame.name(spec), family.vae_id) for picture, frame in wanted]

    def make(numbers: list[int]) -> Iterator[Tensors]:
        return (_latents(family, *wanted[number], spec) for number in numbers)

    captions = [picture.caption for picture in pictures]
    number = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    return Material(
        latents=shelve(cache / "latents", names, make),
        texts=prepare_texts(family, list(number), cache),
        text_of=[number[caption] for caption in captions],
        variants=len(kinds),
    )


def prepare_texts(family: Family, texts: list[str], cache: Path) -> Sequence[Texts]:
    """The embeddings of texts, each without the first dimension."""

    def make(numbers: list[int]) -> Iterator[Texts]:
        for begin in range(0, len(numbers), TEXTS):
            some = [texts[number] for number in numbers[begin : begin + TEXTS]]
            encoded = family.encode_texts(some)
            yield from ({name: rows[i] for name, rows in encoded.items()} for i in range(len(some)))

    return shelve(cache / "texts", [name_of(text, family.text_id) for text in texts], make)


def _latents(family: Family, picture: TrainingPicture, frame: Frame, spec: TrainSpec) -> Tensors:
    image, sizes = cut(picture.decode(), picture.sha256, frame, spec)
    mean, deviation = family.encode_pictures(pixels_of(image))
    return {"mean": mean[0], "deviation": deviation[0], "sizes": torch.tensor(sizes)}


def pixels_of(image: Image.Image) -> Tensor:
    """float32 [1, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
