"""Zip archives: what they hold, and the bombs, which are refused by their central directory or while inflating."""

import io
import struct
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.gateway.archives import DIRECTORY_BYTES, ENTRIES, ArchiveRefused, UploadArchive
from tests.unit.deployments.gateway.zips import (
    claiming,
    damaged,
    directory_of,
    doubled,
    flagged,
    linked,
    overlapping,
    zipped,
)

MOST = 100_000
GOOD = {"a.png": b"picture" * 1000, "b/ä.jpg": b"other", "b/ä.txt": b"large rings", "metadata.jsonl": b"{}\n" * 9}


def opened(data: bytes, most: int = MOST) -> UploadArchive:
    return UploadArchive(io.BytesIO(data), most, "uploads/adire/")


def content(archive: UploadArchive) -> dict[str, bytes]:
    return {entry.name: b"".join(archive.chunks(entry)) for entry in archive.entries}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_entries_are_read_one_by_one(method: int) -> None:
    archive = opened(zipped(GOOD, method))
    assert content(archive) == GOOD
    assert {entry.name: entry.size for entry in archive.entries} == {name: len(data) for name, data in GOOD.items()}
    assert not any(entry.left_out for entry in archive.entries)


def test_utf8_names_are_read_without_their_flag() -> None:
    data = bytearray(zipped({"ä.jpg": b"one"}))
    data[7] &= ~8 & 0xFF  # the flag's byte in the local header
    data[data.rindex(b"PK\1\2") + 9] &= ~8 & 0xFF
    assert content(opened(bytes(data))) == {"ä.jpg": b"one"}


def test_what_an_ingest_leaves_out_has_a_reason() -> None:
    names = ["a.png", "__MACOSX/._a.png", ".DS_Store", "clip.mov", "b/Icon\r", "x/_READY", "folder/"]
    found = {entry.name: entry.left_out for entry in opened(zipped(dict.fromkeys(names, b""))).entries}
    assert [name for name, reason in found.items() if not reason] == ["a.png", "x/_READY"]
    assert "hidden" in found[".DS_Store"]
    assert "none of the kinds" in found["clip.mov"]
    assert found["b/Icon\r"] == "no store can hold its name"
    assert "folder/" not in found


@pytest.mark.parametrize(
    "name", ["/etc/a.png", "../a.png", "b/../../a.png", "..", "C:\\a.png", "C:a.png", "..\\a.png", "\\\\host\\a.png"]
)
def test_a_name_that_leaves_the_folder_is_refused(name: str) -> None:
    with pytest.raises(ArchiveRefused, match="its name is not a relative path"):
        opened(zipped({"good.png": b"", name: b"one"}))


def test_a_name_may_have_another_spelling_as_info_zip_writes_it() -> None:
    plain, real = b"caf?.png", "café.png".encode()
    info = zipfile.ZipInfo(plain.decode())
    info.extra = struct.pack("<HHBL", 0x7075, 5 + len(real), 1, zlib.crc32(plain)) + real
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, b"one")
    found = UploadArchive(buffer, MOST, "uploads/adire/")
    assert content(found) == {found.entries[0].info.filename: b"one"}  # since Python 3.12 the real one
    found.entries[0].info.filename = "café.png"
    assert not found._problem("café.png", found.entries[0].info)


def test_names_in_the_folder_itself_are_plain() -> None:
    assert content(opened(zipped({"./a.png": b"one", "././b/c.png": b"two"}))) == {"a.png": b"one", "b/c.png": b"two"}
    for name in (".//etc/a.png", "./../a.png"):
        with pytest.raises(ArchiveRefused, match="its name is not a relative path"):
            opened(zipped({name: b"one"}))
    with pytest.raises(ArchiveRefused, match="its name occurs twice"):
        opened(zipped({"./a.png": b"one", "a.png": b"two"}))


def test_an_entry_without_a_name() -> None:
    with pytest.raises(ArchiveRefused, match="its name is not a relative path"):
        opened(zipped({"_a.png": b"one"}).replace(b"_a.png", b"\0a.png"))


def test_a_name_that_ends_in_nul_is_refused() -> None:
    data = zipped({"a.png_b.zip": b"one"}).replace(b"a.png_", b"a.png\0")
    with pytest.raises(ArchiveRefused, match="its name is not a relative path"):
        opened(data)


REFUSED = {
    "its name occurs twice": doubled("a.png"),
    "entry 'a.png': its name occurs twice": zipped({"a.png": b"", "a.png/b.png": b""}),
    "it is a symbolic link": linked("a.png", "/etc/passwd"),
    "it is encrypted": flagged(zipped({"a.png": b"one"}), 1),
    "it is an archive itself": zipped({"b/c.ZIP": zipped({"a.png": b""})}),
    "it is neither stored nor deflated": zipped({"a.png": b"one"}, zipfile.ZIP_LZMA),
    "it inflates to 100001 bytes, more than 100000": zipped({"a.png": bytes(MOST + 1)}, zipfile.ZIP_STORED),
    f"it has {ENTRIES + 1} files": directory_of(ENTRIES + 1),
    r"its directory has \d+ bytes, more than": directory_of(DIRECTORY_BYTES // 51 + 1),
    "it overlaps another one": overlapping(20, 50_000),
    "it is not a whole zip file": b"GIF89a" * 100,
    "the archive is refused: it is not a whole zip file": zipped(GOOD)[:-30],
}


@pytest.mark.parametrize("problem", REFUSED)
def test_dangerous_archives_are_refused_before_anything_is_inflated(problem: str) -> None:
    with pytest.raises(ArchiveRefused, match=problem):
        opened(REFUSED[problem])


def test_an_entry_that_inflates_to_many_times_its_size_is_refused() -> None:
    bomb = zipped({"a.png": bytes(50 * 2**20)})
    assert len(bomb) < 2**17
    with pytest.raises(ArchiveRefused, match="it inflates to more than 100 times its size"):
        opened(bomb, 2**30)


def test_entries_that_inflate_to_too_much_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.gateway.archives.INFLATED_BYTES", 299)
    with pytest.raises(ArchiveRefused, match="it inflates to 300 bytes, more than 299"):
        opened(zipped({f"{n}.png": bytes(100) for n in range(3)}))


@pytest.mark.parametrize(
    "data",
    [
        damaged(zipped({"a.png": b"one two three"}, zipfile.ZIP_STORED), b"one two three"),
        claiming(zipped({"a.png": bytes(5000)}), 90_000),  # more than it holds
        claiming(zipped({"a.png": bytes(5000)}), 10),  # less than it holds: a bomb that hides its size
    ],
)
def test_what_is_not_what_the_directory_says_is_refused_while_it_inflates(data: bytes) -> None:
    archive = opened(data)
    with pytest.raises(ArchiveRefused, match=r"entry 'a\.png': it is damaged"):
        content(archive)


WHOLE = zipped(GOOD)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_damage_is_refused_or_harmless(changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    try:
        archive = opened(bytes(data))
        found = content(archive)
    except ArchiveRefused:
        return
    assert sum(map(len, found.values())) <= MOST * len(found)
