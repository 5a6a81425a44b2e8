"""Zip archives, good ones and bombs, as bytes."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
UTF8 = 0x800


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive as any program writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def linked(name: str, target: str) -> bytes:
    """An archive with a symbolic link."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, target)
    return buffer.getvalue()


def doubled(name: str) -> bytes:
    """An archive with two entries of one name."""
    return zipped({name: b"one", "_" * len(name): b"two"}).replace(b"_" * len(name), name.encode())


def flagged(archive: bytes, flag: int) -> bytes:
    """The archive with a flag in every header."""
    for mark, place in ((LOCAL, 6), (CENTRAL, 8)):
        parts = archive.split(mark)
        archive = mark.join([parts[0], *(_with_flag(part, place - 4, flag) for part in parts[1:])])
    return archive


def _with_flag(part: bytes, place: int, flag: int) -> bytes:
    (flags,) = struct.unpack_from("<H", part, place)
    return part[:place] + struct.pack("<H", flags | flag) + part[place + 2 :]


def claiming(archive: bytes, size: int) -> bytes:
    """The archive whose only entry claims to inflate to another size."""
    central = archive.rindex(CENTRAL)
    whole = bytearray(archive)
    struct.pack_into("<I", whole, central + 24, size)
    struct.pack_into("<I", whole, 22, size)
    return bytes(whole)


def damaged(archive: bytes, data: bytes) -> bytes:
    """The archive with a byte changed of what an entry holds, which is stored as it is."""
    place = archive.index(data)
    return archive[:place] + bytes([archive[place] ^ 1]) + archive[place + 1 :]


def overlapping(count: int, size: int) -> bytes:
    """A bomb whose entries all share one compressed body, each quoting the headers of the following ones."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = kernel.compress(bytes(size)) + kernel.flush()
    names = [f"{number:04}.png".encode() for number in range(count)]
    headers = list[bytes]()
    whole, inflated, crc = body, size, zlib.crc32(bytes(size))
    rows = list[tuple[bytes, int, int, int]]()  # name, CRC, compressed, inflated
    for name in reversed(names):
        rows.append((name, crc, len(whole), inflated))
        header = _local(name, crc, len(whole), inflated)
        headers.append(header)
        quote = struct.pack("<BHH", 0, len(header), len(header) ^ 0xFFFF)
        crc = zlib.crc32(header + b"".join(_inflate(whole)))
        inflated += len(header)
        whole = quote + header + whole
    whole = whole[5:]  # the first entry is quoted by none
    offsets = dict[bytes, int]()
    place = 0
    for name, header in zip(names, reversed(headers), strict=True):
        offsets[name] = place
        place += len(header) + 5
    directory = b"".join(_central(*row, offsets[row[0]]) for row in reversed(rows))
    return whole + directory + struct.pack("<4sHHHHIIH", END, 0, 0, count, count, len(directory), len(whole), 0)


def _inflate(data: bytes) -> list[bytes]:
    return [zlib.decompress(data, -15)]


def _local(name: bytes, crc: int, compressed: int, inflated: int) -> bytes:
    return struct.pack("<4sHHHHHIIIHH", LOCAL, 20, 0, 8, 0, 33, crc, compressed, inflated, len(name), 0) + name


def _central(name: bytes, crc: int, compressed: int, inflated: int, offset: int) -> bytes:
    head = struct.pack("<4sHHHHHHIII", CENTRAL, 20, 20, 0, 8, 0, 33, crc, compressed, inflated)
    return head + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, offset) + name


def directory_of(count: int) -> bytes:
    """An archive of nothing but a directory of so many entries."""
    directory = _central(b"a.png", 0, 0, 0, 0) * count
    return directory + struct.pack(
        "<4sHHHHIIH", END, 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), len(directory), 0, 0
    )
