"""What a picture's file says of what made it, as Pillow and exiftool read it."""

import io
import json
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import ExifTags, Image

from tasks.core.data.metadata import of_jpeg, of_png
from tasks.core.models.marks import LONGEST, NAMESPACES, SOURCE_TYPE, Kind, Mark, encode

MARK = Mark(model="adire", generation=7, release="3f2a9c", seed=2**32 - 1, request_id="0d1e-77")
SOFTWARE = f"dyeworks {version('dyeworks')}"
SENTENCE = "Made by AI: model adire, generation 7, release 3f2a9c, seed 4294967295, request 0d1e-77"
KINDS: list[Kind] = ["png", "jpeg", "webp"]
HOSTILE = "</dyeworks:Model><x a='\"'>&amp; ]]> <?xpacket end='w'?>\0\x1b\n\r\ud800\uffff é 模型"
CLEANED = "</dyeworks:Model><x a='\"'>&amp; ]]> <?xpacket end='w'?>" + "\ufffd" * 6 + " é 模型"
each_kind = pytest.mark.parametrize("kind", KINDS)
with_exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")


@pytest.fixture
def cloth() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8))


def read(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def packet(picture: Image.Image) -> str:
    """The XMP packet, wherever the format keeps it."""
    found = picture.info.get("XML:com.adobe.xmp") or picture.info["xmp"]
    return found if isinstance(found, str) else str(found, "utf-8")


def properties(data: bytes) -> dict[str, str | None]:
    """The properties of the XMP packet, which is parsed as XML, by their prefixed names."""
    text = packet(read(data)).strip("\0")
    assert text.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>')
    assert text.endswith('<?xpacket end="r"?>')
    rdf = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
    described = ElementTree.fromstring(text).findall(f"{rdf}RDF/{rdf}Description")
    prefixes = {address: prefix for prefix, address in NAMESPACES.items()}
    names = [(value.tag[1:].split("}"), value.text) for element in described for value in element]
    return {f"{prefixes[address]}:{name}": text for (address, name), text in names}


def exiftool(data: bytes, folder: Path) -> dict[str, Any]:
    """What exiftool reads, by group and tag; it finds fault with nothing."""
    (folder / "picture").write_bytes(data)
    command = ["exiftool", "-json", "-G1", str(folder / "picture")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (found,) = json.loads(done.stdout)
    assert not {"ExifTool:Error", "ExifTool:Warning"} & found.keys()
    return dict(found)


@each_kind
def test_the_file_says_what_made_it(kind: Kind, cloth: Image.Image) -> None:
    assert properties(encode(cloth, kind, MARK)) == {
        "xmp:CreatorTool": SOFTWARE,
        "Iptc4xmpExt:DigitalSourceType": SOURCE_TYPE,
        "Iptc4xmpExt:AISystemUsed": "dyeworks adire",
        "Iptc4xmpExt:AISystemVersionUsed": "generation 7",
        "dyeworks:Model": "adire",
        "dyeworks:Generation": "7",
        "dyeworks:Release": "3f2a9c",
        "dyeworks:Seed": "4294967295",
        "dyeworks:RequestID": "0d1e-77",
    }


@each_kind
def test_pillow_reads_the_digital_source_type(kind: Kind, cloth: Image.Image) -> None:
    pytest.importorskip("defusedxml")
    described = read(encode(cloth, kind, MARK)).getxmp()["xmpmeta"]["RDF"]["Description"]
    assert described["DigitalSourceType"] == SOURCE_TYPE
    assert (described["CreatorTool"], described["Model"]) == (SOFTWARE, "adire")


def test_a_png_has_texts(cloth: Image.Image) -> None:
    picture = read(encode(cloth, "png", MARK))
    assert (picture.info["Software"], picture.info["Description"]) == (SOFTWARE, SENTENCE)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_a_jpeg_or_webp_has_exif(kind: Kind, cloth: Image.Image) -> None:
    exif = read(encode(cloth, kind, MARK)).getexif()
    assert exif == {ExifTags.Base.Software: SOFTWARE, ExifTags.Base.ImageDescription: SENTENCE}


@each_kind
@with_exiftool
def test_exiftool_reads_all_of_it(kind: Kind, cloth: Image.Image, tmp_path: Path) -> None:
    found = exiftool(encode(cloth, kind, MARK), tmp_path)
    assert found["XMP-iptcExt:DigitalSourceType"] == SOURCE_TYPE
    assert (found["XMP-xmp:CreatorTool"], found["XMP-iptcExt:AISystemUsed"]) == (SOFTWARE, "dyeworks adire")
    ours = [found[f"XMP-dyeworks:{name}"] for name in ("Model", "Generation", "Release", "Seed", "RequestID")]
    assert ours == ["adire", 7, "3f2a9c", 4294967295, "0d1e-77"]
    group, text = ("PNG", "Description") if kind == "png" else ("IFD0", "ImageDescription")
    assert (found[f"{group}:Software"], found[f"{group}:{text}"]) == (SOFTWARE, SENTENCE)


@each_kind
@with_exiftool
def test_exiftool_reads_hostile_names(kind: Kind, cloth: Image.Image, tmp_path: Path) -> None:
    mark = Mark(HOSTILE, 7, HOSTILE, 1, HOSTILE)
    found = exiftool(encode(cloth, kind, mark), tmp_path)
    assert found["XMP-dyeworks:Model"] == found["XMP-dyeworks:RequestID"] == CLEANED
    assert found["XMP-iptcExt:DigitalSourceType"] == SOURCE_TYPE


@each_kind
def test_hostile_names_stay_values(kind: Kind, cloth: Image.Image) -> None:
    found = properties(encode(cloth, kind, Mark(HOSTILE, 7, HOSTILE, 1, HOSTILE)))
    assert len(found) == 9
    assert found["dyeworks:Model"] == found["dyeworks:Release"] == found["dyeworks:RequestID"] == CLEANED


@each_kind
def test_long_names_are_cut(kind: Kind, cloth: Image.Image) -> None:
    long = "&" * 100_000
    found = properties(encode(cloth, kind, Mark(long, 7, long, 1, long)))
    assert found["dyeworks:Model"] == found["dyeworks:RequestID"] == "&" * LONGEST


@each_kind
def test_the_bare_base_is_named(kind: Kind, cloth: Image.Image) -> None:
    found = properties(encode(cloth, kind, Mark("adire", 0, "", 1, "r")))
    assert (found["dyeworks:Release"], found["dyeworks:Generation"]) == ("base", "0")


@each_kind
def test_without_a_mark_the_file_says_nothing(kind: Kind, cloth: Image.Image) -> None:
    data = encode(cloth, kind, None)
    assert not read(data).getexif()
    assert not {"xmp", "XML:com.adobe.xmp", "Software"} & read(data).info.keys()
    assert b"dyeworks" not in data


@each_kind
def test_a_mark_changes_no_pixel_and_the_bytes_repeat(kind: Kind, cloth: Image.Image) -> None:
    marked = encode(cloth, kind, MARK)
    assert marked == encode(cloth, kind, MARK)
    assert read(marked).tobytes() == read(encode(cloth, kind, None)).tobytes()
    assert read(marked).format == kind.upper()


def test_a_png_keeps_every_pixel(cloth: Image.Image) -> None:
    assert read(encode(cloth, "png", MARK)).tobytes() == cloth.tobytes()


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_quality_is_90_unless_it_is_named(kind: Kind, cloth: Image.Image) -> None:
    low, usual, high = (encode(cloth, kind, MARK, quality) for quality in (10, None, 100))
    assert len(low) < len(usual) < len(high)
    assert usual == encode(cloth, kind, MARK, 90)


@each_kind
def test_a_transparent_picture_is_encoded(kind: Kind, cloth: Image.Image) -> None:
    cloth.putalpha(128)
    assert read(encode(cloth, kind, MARK)).size == cloth.size


def test_our_own_pictures_can_be_uploaded(cloth: Image.Image) -> None:
    for bare, metadata in (of_png(encode(cloth, "png", MARK)), of_jpeg(encode(cloth, "jpeg", MARK))):
        assert metadata.orientation == 1
        assert b"dyeworks" not in bare
