"""A store whose process is stopped before a given change."""

from collections.abc import Iterable
from pathlib import Path

from tasks.core.store import FolderStore


class Stopped(BaseException):
    """Stands for SIGKILL: no handler of errors catches it."""


class StoppingStore(FolderStore):
    """Counts what changes it, and stops before the change with the given number; each deletion is one."""

    def __init__(self, root: Path, stop_at: int = 0) -> None:
        super().__init__(root)
        self.stop_at, self.changes = stop_at, 0

    def _change(self) -> None:
        self.changes += 1
        if self.changes == self.stop_at:
            raise Stopped

    def write(self, key: str, data: bytes) -> None:
        self._change()
        super().write(key, data)

    def create(self, key: str, data: bytes) -> None:
        self._change()
        super().create(key, data)

    def delete(self, key: str) -> None:
        self._change()
        super().delete(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.delete(key)
