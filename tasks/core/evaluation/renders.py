"""Rendered pictures in the store: one object for each model, prompt and way of rendering, a strip over its seeds.

An object is a PNG, which any viewer opens; its text chunk holds seeds, seconds, faults and the sha256 of the pixels.
"""

import hashlib
import io
import struct
from importlib.metadata import version

import torch
from PIL import Image, PngImagePlugin

from tasks.core.config.presets import EvaluationSpec
from tasks.core.errors import DocumentInvalid, ObjectMissing
from tasks.core.models.device import pick_device, pick_dtype
from tasks.core.models.identity import base_fingerprint
from tasks.core.models.images import NAN
from tasks.core.registry.results import render_folder
from tasks.core.store import Store
from tasks.core.store.documents import Document, digest, parse

TEXT = "dyeworks"


class Way(Document):
    """All that a picture and its seconds depend on, beside the model, the prompt and the seed."""

    base: str
    size: int
    steps: int
    guidance: float
    batch: int
    dtype: str
    device: str
    scheduler: str = "DDIM"
    versions: str = ""


class Shot(Document):
    """One rendered picture's facts; the picture itself lies beside them."""

    seed: int
    seconds: float
    nan: bool = False


class Strip(Document):
    """Metadata of a strip of pictures."""

    sha256: str
    shots: tuple[Shot, ...]


Shots = dict[int, tuple[Image.Image, float]]  # by seed: the picture, and the seconds that it took


def way_of(base: str, device_name: str, spec: EvaluationSpec, size: int) -> Way:
    """How this machine renders for an evaluation."""
    device = pick_device(device_name)
    return Way(
        base=base_fingerprint(base),
        size=size,
        steps=spec.steps,
        guidance=spec.guidance,
        batch=spec.batch,
        dtype=str(pick_dtype(device)),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        versions=" ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "peft")),
    )


class RenderCache:
    """The rendered pictures of one model and one way of rendering."""

    def __init__(self, store: Store, model: str, way: Way) -> None:
        self.store, self.model, self.way = store, model, way

    def key(self, weights: str, prompt: str) -> str:
        """Key of the pictures of a prompt; `weights` is the sha256 of an adapter's weights, or `base`."""
        return f"{render_folder(self.model, weights)}{digest(self.way)}/{digest(prompt)}.png"

    def read(self, weights: str, prompt: str) -> Shots:
        """The stored renders; none where the object is damaged."""
        try:
            return _unpack(self.store.read(self.key(weights, prompt)))
        except ObjectMissing:
            return {}

    def add(self, weights: str, prompt: str, shots: Shots) -> None:
        """Store further pictures; of two concurrent writers one may lose its own, which are then rendered again."""
        both = self.read(weights, prompt) | shots
        self.store.write(self.key(weights, prompt), _pack(both))


def _pack(shots: Shots) -> bytes:
    pictures = [picture for picture, _ in shots.values()]
    strip = Image.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)))
    for i, picture in enumerate(pictures):
        strip.paste(picture, (i * picture.width, 0))
    facts = tuple(Shot(seed=s, seconds=seconds, nan=NAN in p.info) for s, (p, seconds) in shots.items())
    info = PngImagePlugin.PngInfo()
    info.add_text(TEXT, Strip(sha256=_sha256(strip), shots=facts).model_dump_json())
    buffer = io.BytesIO()
    strip.save(buffer, "PNG", pnginfo=info, compress_level=1)
    return buffer.getvalue()


def _unpack(data: bytes) -> Shots:
    try:
        with PngImagePlugin.PngImageFile(io.BytesIO(data)) as opened:  # many seeds pass the limit of `Image.open`
            strip = opened.convert("RGB")
            found = parse(Strip, str(opened.info.get(TEXT)).encode(), TEXT)
    except (DocumentInvalid, OSError, SyntaxError, ValueError, struct.error):  # of a damaged file
        return {}
    if found.sha256 != _sha256(strip):
        return {}
    side = strip.width // len(found.shots)
    return {shot.seed: (_cut(strip, i * side, side, shot.nan), shot.seconds) for i, shot in enumerate(found.shots)}


def _cut(strip: Image.Image, left: int, side: int, nan: bool) -> Image.Image:
    picture = strip.crop((left, 0, left + side, strip.height))
    picture.info = {NAN: True} if nan else {}
    return picture


def _sha256(strip: Image.Image) -> str:
    return hashlib.sha256(repr(strip.size).encode() + strip.tobytes()).hexdigest()
