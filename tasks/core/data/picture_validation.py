"""Decoding of uploaded pictures: checked, converted to RGB, turned upright."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import numpy.typing as npt
import PIL
import pillow_heif
from PIL import Image, ImageOps
from PIL.AvifImagePlugin import AvifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pillow_heif import HeifImageFile

from tasks.core.config.presets import IngestSpec
from tasks.core.data.colours import as_rgb, to_srgb
from tasks.core.data.metadata import Metadata, of_colour_box, of_exif, of_jpeg, of_png, without_exif
from tasks.core.data.parallel import Room
from tasks.core.errors import PictureRefused
from tasks.core.store.documents import digest

EXAMINATION = "1"  # raise it when `examine` refuses or changes other pictures than before
UNKNOWN = "cannot be decoded: it is no JPEG, PNG, WebP, HEIC or AVIF picture"
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
FOREIGN = {"1": "black and white", "L": "grey", "LA": "grey", "I;16": "grey", "P": "palette"}
FORMS = 1.0  # standard deviation, of 255, of the means of parts of a picture from which on they show something
CELLS, CELL = 32, 8  # such parts along a side at most, and pixels along a side of one at least
PATTERN = 8.0  # fourth root of the mean fourth power of what pixels differ from their mean by: the same of a pattern
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DAMAGE = (OSError, SyntaxError, ValueError, RuntimeError, EOFError)  # what decoders raise


def examination(spec: IngestSpec) -> str:
    """Digest of all that `examine` depends on beside the picture: limits, code, decoders."""
    limits = spec.model_dump(mode="json", include={"min_side", "max_bytes", "max_pixels", "max_aspect"})
    return digest(EXAMINATION, PIL.__version__, pillow_heif.__version__, limits)


def examine(name: str, data: bytes, spec: IngestSpec, room: Room | None = None) -> str:
    """How `decode` changes the picture ("" if it does not); raises PictureRefused when it may not enter a dataset.

    Args:
        room: for the pixels of all pictures that are decoded at once.
    """
    with decoding(name, data, spec, room) as (picture, changes):
        if max(picture.size) > spec.max_aspect * min(picture.size):
            shape = f"{picture.width} x {picture.height}"
            raise PictureRefused(name, f"{shape} is more than {spec.max_aspect:g} times as long as wide; crop it")
        return ", ".join(changes)


def decode(name: str, data: bytes, spec: IngestSpec) -> Image.Image:
    """The picture in RGB, upright by its EXIF, with the colours of sRGB; raises PictureRefused with the reason."""
    with decoding(name, data, spec) as (picture, _):
        return picture.copy()  # without the file


@contextmanager
def decoding(
    name: str, data: bytes, spec: IngestSpec, room: Room | None = None
) -> Iterator[tuple[Image.Image, list[str]]]:
    """What `decode` returns and what it has changed, with room for the picture's pixels during the block."""
    try:
        opened, metadata = _open(name, data)
    except DAMAGE as error:
        raise _damaged(name, error) from error
    _check_size(name, *opened.size, spec)
    with room.taken(opened.width * opened.height) if room else nullcontext():
        yield _read(name, opened, metadata)


def _read(name: str, opened: ImageFile, metadata: Metadata) -> tuple[Image.Image, list[str]]:
    try:
        opened.load()
    except DAMAGE as error:
        raise _damaged(name, error) from error
    picture, changes = _rgb(opened, metadata)
    if _shows_nothing(picture):
        raise PictureRefused(name, "is blank: all of it has one colour")
    if metadata.orientation in UPRIGHT:
        picture = picture.transpose(UPRIGHT[metadata.orientation])
    return picture, changes + _remarks(metadata)


def _damaged(name: str, error: Exception) -> PictureRefused:
    return PictureRefused(name, f"cannot be decoded: {error}")


def _open(name: str, data: bytes) -> tuple[ImageFile, Metadata]:
    """The picture, not decoded yet, and its metadata.

    `Image.open` is not used: its pixel limit is global to the process, not that of the specification.
    """
    brands = data[8 : int.from_bytes(data[:4])] if data[4:8] == b"ftyp" else b""
    if data.startswith(b"\xff\xd8\xff"):
        plain, metadata = of_jpeg(data)
        return JpegImageFile(io.BytesIO(plain)), metadata
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        plain, metadata = of_png(data)
        return PngImageFile(io.BytesIO(plain)), metadata
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _of_webp(WebPImageFile(io.BytesIO(data)))
    if b"avif" in brands or b"avis" in brands:
        return _of_boxes(AvifImageFile(io.BytesIO(without_exif(data))), data)
    if brands[:4] in HEIF_BRANDS:
        return _of_boxes(HeifImageFile(io.BytesIO(without_exif(data))), data)
    raise PictureRefused(name, UNKNOWN)


def _of_webp(opened: WebPImageFile) -> tuple[ImageFile, Metadata]:
    orientation, adobe = of_exif(opened.info.get("exif", b""), opened.info.get("xmp", b""))
    icc = opened.info.get("icc_profile", b"")
    return opened, Metadata(orientation, icc, adobe_rgb=adobe, frames=opened.n_frames)


def _of_boxes(opened: AvifImageFile | HeifImageFile, data: bytes) -> tuple[ImageFile, Metadata]:
    """Of HEIC and AVIF: what turns the picture is no EXIF; libheif does it, Pillow makes EXIF of it for AVIF."""
    orientation, _ = of_exif(opened.info.get("exif") or b"")
    icc = opened.info.get("icc_profile", b"")
    coding = None if icc else of_colour_box(data)
    return opened, Metadata(orientation, icc, coding, bits=opened.info.get("bit_depth", 8), frames=opened.n_frames)


def _check_size(name: str, width: int, height: int, spec: IngestSpec) -> None:
    if width * height > spec.max_pixels:
        raise PictureRefused(name, f"{width} x {height} is more than {spec.max_pixels} pixels")
    if min(width, height) < spec.min_side:
        raise PictureRefused(name, f"{width} x {height} is smaller than {spec.min_side} pixels")


def _rgb(picture: Image.Image, metadata: Metadata) -> tuple[Image.Image, list[str]]:
    changes = [f"{FOREIGN[picture.mode]} made RGB"] if picture.mode in FOREIGN else []
    colours, alpha = _parted(picture, metadata.bits)
    colours, made = to_srgb(colours, metadata)
    if alpha is None:
        return colours, changes + made
    white = Image.new("RGB", colours.size, "white")
    return Image.composite(colours, white, alpha), [*changes, *made, "transparency laid on white"]


def _parted(picture: Image.Image, bits: int) -> tuple[Image.Image, Image.Image | None]:
    """The colours (L, RGB or CMYK, 8 bits a channel) and how opaque each pixel is (L), if not all of it is opaque.

    `bits` are those of a channel in the file: a PNG names its transparent colour by the file's own numbers.
    """
    key = picture.info.get("transparency")
    if picture.mode.startswith("I"):  # 16 bits: Pillow's own conversion clips nearly all of it to white
        values = np.asarray(picture)
        return Image.fromarray((values >> 8).astype(np.uint8)), None if key is None else _mask(values != key)
    if picture.mode in ("1", "L"):
        grey = picture.convert("L")
        return grey, None if key is None else _mask(np.asarray(grey) != key * 255 // (2**bits - 1))
    if picture.mode == "RGB" and key is not None:
        return picture, _mask((np.asarray(picture) != np.array(key) >> max(0, bits - 8)).any(-1))
    if picture.mode == "LA":
        return picture.getchannel("L"), picture.getchannel("A")
    if "A" in picture.mode.upper() or key is not None:
        picture = picture.convert("RGBA")
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    return picture if picture.mode == "CMYK" else as_rgb(picture), alpha


def _mask(opaque: npt.NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(opaque.astype(np.uint8) * 255)


def _remarks(metadata: Metadata) -> list[str]:
    deep = [f"{metadata.bits} bits a channel cut to 8"] * (metadata.bits > 8)
    turned = ["turned upright by its EXIF"] * (metadata.orientation > 1)
    return deep + turned + [f"first of {metadata.frames} frames"] * (metadata.frames > 1)


def _shows_nothing(picture: Image.Image) -> bool:
    """Whether there are neither large forms nor a pattern, whose parts all have one mean.

    The fourth power makes fine dots weigh more than the noise of a sensor that has the same deviation.
    """
    cells = max(1, min(CELLS, min(picture.size) // CELL))
    if np.asarray(picture.resize((cells, cells))).std(axis=(0, 1)).max() >= FORMS:
        return False
    levels, shares = np.arange(256), np.reshape(picture.histogram(), (3, 256)) / (picture.width * picture.height)
    differences = levels - (shares @ levels)[:, None]
    return bool((shares * differences**4).sum(1).max() < PATTERN**4)


def square(picture: Image.Image, side: int) -> Image.Image:
    """The middle of the picture as a square of `side` pixels."""
    return ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)
