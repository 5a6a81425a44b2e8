"""Folders as people might have them, drawn at random, with the truth on each file; nothing of dyeworks is used."""

import io
import json
import os
import struct
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import numpy as np
from hypothesis import strategies as st
from PIL import Image

INSTANCE = "instance prompt"
FOLDERS = ["", "", "sub/", "10_cloth/", "Sub/deeper/"]
STEMS = ["a", "A", "b", "IMG_1", "a.b", "caf\u00e9", "cafe\u0301", "\u00e0d\u00ecr", "a (1)", "readme", "b.png"]
ENDINGS = [".png", ".png", ".jpg", ".JPEG", ".webp", ".PNG "]
ODD = ["back\\slash.png", ".dyeworks-x.png", "bell\x07.png", "line\nbreak.txt", os.fsdecode(b"caf\x82.png")]
JUNK = [".DS_Store", "Thumbs.db", "@eaDir/a.png", "__MACOSX/._a.png", ".ipynb_checkpoints/a.png", "._b.txt", ".a.png"]
OTHERS = ["x.gif", "y.TIFF", "noending", "notes.md", "movie.mp4", "sub/z.bmp"]
WORDS = ["rings", "dots", "indigo, white", "caf\u00e9", "\u85cd\u67d3", "na\u00efve", "-", '"quoted"']
ENCODINGS = ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-be-mark", "utf-16-le", "nul", "cp1252", "empty", "blank"]
DAMAGE = ["none"] * 6 + ["cut", "flip", "exif", "exif", "icc", "text"]
RATIONAL = struct.pack("<8sHHHIII", b"II*\0\x08\0\0\0", 1, 0x011A, 10, 1, 26, 0)
MINUS_ONE_OVER_ZERO = b"Exif\0\0" + RATIONAL + struct.pack("<ii", -1, 0)


@dataclass
class Picture:
    """A picture, whether it must be accepted, and its intended captions, by file or line."""

    name: str
    data: bytes = field(repr=False)
    good: bool
    captions: dict[str, str] = field(default_factory=dict)
    unreadable: bool = False  # one of its captions is
    sure: bool = False  # one that can be read cannot be meant for another picture


@dataclass
class RandomFolder:
    """All files by name, and the expected result for each."""

    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    pictures: list[Picture] = field(default_factory=list)
    odd: int = 0
    junk: int = 0
    others: int = 0
    orphans: int = 0  # captions that no picture was meant by
    bad_table: bool = False

    def add(self, name: str, data: bytes) -> bool:
        """Whether there is room under the name: a file is no folder."""
        taken = any(
            name == other or name.startswith(f"{other}/") or other.startswith(f"{name}/") for other in self.files
        )
        if not taken:
            self.files[name] = data
        return not taken


def random_folders(odd: list[str] = ODD) -> st.SearchStrategy[RandomFolder]:
    """Folders of up to five pictures, none like another: hypothesis's own draws are alike, and show few rare things."""
    return st.randoms(use_true_random=True).map(lambda rng: random_folder(rng, odd))


def random_folder(rng: Random, odd: list[str]) -> RandomFolder:
    """A folder of up to five pictures."""
    folder = RandomFolder()
    for number in range(rng.randint(1, 5)):
        _picture(rng, folder, number)
    for picture in folder.pictures:
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            _text(rng, folder, picture)
    if rng.random() < 0.5:
        _table(rng, folder)
    folder.odd = _rest(rng, folder, odd, b"odd")
    folder.junk = _rest(rng, folder, JUNK, folder.pictures[0].data)
    folder.others = _rest(rng, folder, OTHERS, b"")
    for number in range(rng.randint(0, 2)):
        folder.orphans += folder.add(f"orphan{number}.txt", b"of nobody")
    return folder


def _rest(rng: Random, folder: RandomFolder, names: list[str], data: bytes) -> int:
    chosen = rng.sample(names, rng.randint(0, 2))
    return sum(folder.add(name, data) for name in chosen)


def _labels(name: str) -> set[str]:
    """A picture's name with and without its ending, as carelessly as any file system may compare it."""
    return {unicodedata.normalize("NFKD", label.lower()).upper() for label in (name, name.rpartition(".")[0])}


# Pictures


def _picture(rng: Random, folder: RandomFolder, number: int) -> None:
    name = rng.choice(FOLDERS) + rng.choice(STEMS) + rng.choice(ENDINGS)
    copied = rng.randint(0, 5) == 0 and bool(folder.pictures)
    if copied:
        before = rng.choice(folder.pictures)
        data, good = before.data, before.good
    else:
        kind = rng.choice(["PNG", "PNG", "JPEG", "WEBP"])
        damage = rng.choice(DAMAGE)
        data, good = _damaged(rng, number, kind, damage), damage in {"none", "icc", "exif"}
    if folder.add(name, data):
        folder.pictures.append(Picture(name, data, good))


def _damaged(rng: Random, seed: int, kind: str, damage: str) -> bytes:
    data = _encoded(seed + 10 * rng.randint(0, 99), kind)
    match damage:
        case "exif":
            exif = rng.choice([_exif(), MINUS_ONE_OVER_ZERO])
            data = _encoded(seed, kind, exif=_flipped(rng, exif, 6))
        case "icc":
            data = _encoded(seed, kind, icc_profile=rng.randbytes(rng.randint(0, 200)))
        case "cut":
            data = data[: rng.randint(0, len(data) - 1)]
        case "flip":
            data = _flipped(rng, data, 0)
        case "text":
            data = b"no picture" + bytes([seed])
    return data


def _flipped(rng: Random, data: bytes, start: int) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(0, 4)):
        changed[rng.randint(start, len(data) - 1)] = rng.randint(0, 255)
    return bytes(changed)


def _encoded(seed: int, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 255, (34, 40, 3), dtype=np.uint8)
    Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A], exif[0x010F], exif[0x0132] = 72.5, "camera", "2026:01:31 12:00:00"
    exif.get_ifd(0x8769)[0x829A] = 0.01
    return exif.tobytes()


# Captions


def _text(rng: Random, folder: RandomFolder, picture: Picture) -> None:
    name = rng.choice(_beside(picture.name))
    stem = name.rpartition(".")[0]
    others = [other for other in folder.pictures if other is not picture]
    if not _names(stem, picture) and any(_names(stem, other) for other in others):
        return  # it is spelt as the name of another picture, and so would be that one's
    text = f"p{len(folder.files)} " + " ".join(rng.choices(WORDS, k=rng.randint(1, 4)))
    data, read = _written(rng, text)
    if not folder.add(name, data):
        return
    if read:
        picture.captions[name] = text
        alone = all(_labels(other.name).isdisjoint(_labels(picture.name)) for other in others)
        picture.sure |= alone or (_names(stem, picture) and not any(_names(stem, other) for other in others))
    elif read is None:
        picture.unreadable = True


def _names(stem: str, picture: Picture) -> bool:
    return stem in {picture.name, picture.name.rpartition(".")[0]}


def _beside(name: str) -> list[str]:
    stem = name.rpartition(".")[0]
    folder, slash, last = stem.rpartition("/")
    spellings: list[Callable[[str], str]] = [
        str.upper,
        str.lower,
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: unicodedata.normalize("NFC", text),
    ]
    plain = [f"{stem}.txt", f"{stem}.caption", f"{name}.txt", f"{stem}.TXT"]
    return plain + [f"{folder}{slash}{spell(last)}.txt" for spell in spellings]


def _written(rng: Random, text: str) -> tuple[bytes, bool | None]:
    """The text as a program may write it; whether it is to be read: None when it can't be."""
    encoding = rng.choice(ENCODINGS)
    hidden = rng.choice(["", "", "\u200b", "\x1b", "\ufeff", "\u2060"])
    text = rng.choice(["", "\r\n", "  "]) + text.replace(" ", f"{hidden}  ") + rng.choice(["", "\n"])
    if rng.random() < 0.5:
        text = unicodedata.normalize("NFD", text)
    if encoding == "utf-16-le" and not text.isascii():
        encoding = "utf-8"  # without a mark only Latin letters can be known for UTF-16
    if encoding == "cp1252":
        return b"\xe9t\xe9 " + text.encode("cp1252", "ignore"), None
    others = {
        "utf-16-be-mark": (b"\xfe\xff" + text.encode("utf-16-be"), True),
        "nul": (text.encode() + b"\0", True),
        "empty": (b"", False),
        "blank": ("\ufeff \u200b\n".encode(), False),
    }
    return others[encoding] if encoding in others else (text.encode(encoding), True)


def _table(rng: Random, folder: RandomFolder) -> None:
    place = rng.choice(["", "sub/"])
    kind = rng.choice(["metadata.jsonl", "metadata.csv", "metadata.json", "meta_cap.json", "broken"])
    inside = [picture for picture in folder.pictures if picture.name.startswith(place)]
    if kind == "broken":
        folder.bad_table = folder.add(f"{place}metadata.jsonl", rng.choice([b'{"file', b"\xff\xfe\0", b"[1]"]))
        return
    chosen = [picture for picture in inside if rng.random() < 0.5]
    lines = [(picture.name.removeprefix(place), f"t{i} {rng.choice(WORDS)}") for i, picture in enumerate(chosen)]
    strangers = [(f"gone{i}.png", "of nobody") for i in range(rng.randint(0, 2))]
    if not folder.add(place + kind, _rendered(kind, lines + strangers)):
        return
    for picture, (_, text) in zip(chosen, lines, strict=True):
        picture.captions[kind], picture.sure = text, True
    folder.orphans += len(strangers)
    folder.bad_table = bool(strangers) and not lines


def _rendered(kind: str, lines: list[tuple[str, str]]) -> bytes:
    if kind == "metadata.jsonl":
        return "\n".join(json.dumps({"file_name": name, "text": text}) for name, text in lines).encode()
    if kind == "metadata.csv":
        rows = ['"{}","{}"'.format(*(value.replace('"', '""') for value in line)) for line in lines]
        return "\r\n".join(["image,caption", *rows]).encode("utf-8-sig")
    if kind == "metadata.json":
        return json.dumps([{"image_path": name, "prompt": text} for name, text in lines]).encode()
    return json.dumps({name: {"caption": text} for name, text in lines}, ensure_ascii=False).encode()
