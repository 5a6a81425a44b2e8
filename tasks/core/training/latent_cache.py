"""A content-addressed cache of tensors on disk, safe with concurrent runs."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import psutil
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]


def name_of(*parts: str) -> str:
    """The file name of a result that depends on these parts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def keep(path: Path, tensors: Tensors) -> None:
    """Write the file atomically; of two runs that write the same, the later one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part.name)
    Path(part.name).replace(path)


def kept(path: Path) -> Tensors | None:
    """The file's tensors, memory-mapped; None when it is missing or damaged."""
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None


class LatentCache(Sequence[Tensors]):
    """Tensors by number: all in memory when they fit into `room` bytes, else mapped from their files when asked for."""

    def __init__(self, paths: Sequence[Path], room: int | None = None) -> None:
        self.paths = paths
        room = psutil.virtual_memory().available // 4 if room is None else room
        fits = sum(path.stat().st_size for path in set(paths)) <= room
        self.memory = {p: _copied(load_file(p)) for p in dict.fromkeys(paths)} if fits else {}

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Tensors]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Tensors:  # type: ignore[override]  # no slices
        path = self.paths[index]
        return self.memory[path] if self.memory else load_file(path)


def _copied(tensors: Tensors) -> Tensors:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def shelve(
    folder: Path, names: Sequence[str], make: Callable[[list[int]], Iterable[Tensors]], room: int | None = None
) -> LatentCache:
    """The cached tensors of these names; `make` computes those of the numbers that are missing."""
    paths = [folder / f"{name}.safetensors" for name in names]
    first = {path: number for number, path in reversed(list(enumerate(paths)))}
    missing = sorted(number for path, number in first.items() if kept(path) is None)
    for number, tensors in zip(missing, make(missing), strict=True):
        keep(paths[number], tensors)
    return LatentCache(paths, room)
