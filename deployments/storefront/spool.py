"""A bounded spool on local disk, for lines that the store does not have yet.

A line is in a file when `add` returns, by write(2) without fsync: it survives the end of the process, also kill -9, but
not a power cut. Each process writes files of its own, under a lock (flock) that ends with it; whoever finds a file
without a lock takes it over. Where the disk is full or cannot be written, lines are held in memory.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from uuid import uuid4

log = logging.getLogger("dyeworks.storefront")
MOST_BYTES = 64 * 2**20  # of all lines of a spool, some 150,000
SEGMENTS = 64  # files that hold them: the oldest is dropped as a whole
SUFFIX = ".jsonl"


@dataclass(eq=False)
class Segment:
    """Lines in the order they were added, in a locked file or, without one, in memory."""

    path: Path | None = None
    descriptor: int = -1
    size: int = 0  # bytes
    count: int = 0  # lines
    lines: list[bytes] = field(default_factory=list)

    def append(self, line: bytes) -> None:
        """Add a line; raises OSError, after which the segment is as it was before."""
        if self.path is None:
            self.lines.append(line)
        elif os.write(self.descriptor, line + b"\n") != len(line) + 1:
            os.ftruncate(self.descriptor, self.size)
            raise OSError(f"{self.path}: no space for a whole line")
        self.size += len(line) + 1
        self.count += 1

    def read(self) -> list[bytes]:
        """All whole lines; raises OSError."""
        if self.path is None:
            return list(self.lines)
        return os.pread(self.descriptor, self.size, 0).split(b"\n")[:-1]

    def close(self) -> None:
        """Unlock the file, which stays."""
        if self.path is not None:
            os.close(self.descriptor)

    def remove(self) -> None:
        """Delete the file."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.close()


class Spool:
    """The segments of one log in a folder, oldest first; the last one is being written."""

    def __init__(self, folder: Path, most: int = MOST_BYTES) -> None:
        self.folder, self.most = folder, most
        self.sealed: list[Segment] = []
        self.current = Segment()
        self.dropped = 0  # lines, since `forget_dropped`
        self.lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """The number of lines."""
        return sum(segment.count for segment in self._all())

    @property
    def in_memory(self) -> int:
        """The number of lines that would be lost with the process."""
        return sum(segment.count for segment in self._all() if segment.path is None)

    def add(self, line: bytes) -> None:
        """Append a line without a line end; while there are too many bytes, the oldest segment is dropped."""
        with self.lock:
            if not self.current.count:
                self._begin()
            try:
                self.current.append(line)
            except OSError as error:
                self._seal()
                self._log_unusable(error)
                self.current.append(line)
            if self.current.size >= self.most // SEGMENTS:
                self._seal()
            while self.sealed and sum(segment.size for segment in self._all()) > self.most:
                self._drop(self.sealed.pop(0))

    def pending(self) -> Iterator[tuple[Segment, list[bytes]]]:
        """The segments with their lines, oldest first; the current one, once those before it are taken."""
        for segment in list(self.sealed):
            yield segment, self._read(segment)
        with self.lock:
            ended = self._seal()
        if ended:
            yield ended, self._read(ended)

    def remove(self, segment: Segment) -> None:
        """Delete a segment: the store has it."""
        with self.lock:
            if segment in self.sealed:
                self.sealed.remove(segment)
                segment.remove()
            else:  # dropped while it was being stored
                self.dropped -= segment.count

    def take_over(self) -> int:
        """Take over what dead processes have left, as far as there is room; returns the number of lines."""
        with self.lock:
            left = filter(None, map(_taken, sorted(self.folder.glob(f"*{SUFFIX}"))))
            found = list(islice(left, max(SEGMENTS - len(self.sealed), 0)))
            self.sealed = found + self.sealed
        return sum(segment.count for segment in found)

    def forget_dropped(self) -> int:
        """The number of lines that were dropped since the last call."""
        with self.lock:
            dropped, self.dropped = self.dropped, 0
        return dropped

    def close(self) -> None:
        """Unlock all files, so that another process can take them over."""
        with self.lock:
            self._seal()
            for segment in self.sealed:
                segment.close()
            self.sealed = []

    def _read(self, segment: Segment) -> list[bytes]:
        """The lines of a segment; none if it was dropped."""
        with self.lock:
            return segment.read() if segment in self.sealed else []

    def _all(self) -> list[Segment]:
        return [*self.sealed, self.current]

    def _begin(self) -> None:
        """Begin a file, or a segment in memory where that fails."""
        self.current.close()
        try:
            self.current = _created(self.folder)
        except OSError as error:
            self.current = Segment()
            self._log_unusable(error)

    def _seal(self) -> Segment | None:
        """End the current segment; None if it has no line."""
        ended, self.current = self.current, Segment()
        if not ended.count:
            ended.remove()
            return None
        self.sealed.append(ended)
        return ended

    def _drop(self, segment: Segment) -> None:
        self.dropped += segment.count
        segment.remove()

    def _log_unusable(self, error: OSError) -> None:
        log.error(
            "the spool %s cannot be written (%s): lines are held in memory, and would be lost with this process; "
            "free space there, or set DYEWORKS_SPOOL to another folder",
            self.folder,
            error,
        )


def _created(folder: Path) -> Segment:
    """A new file, readable only by its owner and locked; it may be taken over before it is locked."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        path = folder / f"{time.time_ns():020d}-{uuid4().hex[:8]}{SUFFIX}"
        if (descriptor := _locked(path, os.O_CREAT | os.O_EXCL)) is not None:
            return Segment(path, descriptor)


def _taken(path: Path) -> Segment | None:
    """The file of a dead process, locked, without half a last line; None if it is another's or has no line."""
    try:
        if (descriptor := _locked(path)) is None:
            return None
        data = path.read_bytes()
        size = data.rfind(b"\n") + 1
        os.ftruncate(descriptor, size)
    except OSError as error:
        log.error("the spool's file %s cannot be taken over: %s", path, error)
        return None
    segment = Segment(path, descriptor, size, data.count(b"\n"))
    if not size:
        segment.remove()
    return segment if size else None


def _locked(path: Path, flags: int = 0) -> int | None:
    """Open and lock a file; None if another process has locked or deleted it. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_there = os.fstat(descriptor).st_nlink > 0
    except BlockingIOError:
        is_there = False
    except OSError:
        os.close(descriptor)
        raise
    if not is_there:
        os.close(descriptor)
    return descriptor if is_there else None
