"""Which base model and which scorer are used: where they lie and what names them. Without torch."""

import hashlib
from functools import cache
from pathlib import Path

from tasks.core.settings import EMBEDDED, EMBEDDED_FOLDER, Settings

LOCAL = "local-dir:"  # open_clip's address of a folder


def locate(settings: Settings) -> tuple[str, str | None]:
    """Where the base model is: a folder or a Hub id, and its revision."""
    if settings.base_model == EMBEDDED:
        return str(EMBEDDED_FOLDER / "pipeline"), None
    name, _, revision = settings.base_model.partition("@")
    return name, revision or None


def base_fingerprint(settings: Settings) -> str:
    """Names the base model: a folder by its weights, wherever it lies; one of the Hub by its id and revision."""
    folder = Path(locate(settings)[0])
    if settings.base_model == EMBEDDED:
        return _fingerprint(folder)
    return _fingerprint(folder, "local") if folder.is_dir() else settings.base_model


def scorer_fingerprint(settings: Settings) -> str:
    """Names the encoder: embeddings of different ones are never compared."""
    if settings.clip == EMBEDDED:
        return _fingerprint(EMBEDDED_FOLDER / "clip")
    if settings.clip.startswith(LOCAL):
        return _fingerprint(Path(settings.clip.removeprefix(LOCAL)), "local")
    return settings.clip


def _fingerprint(folder: Path, kind: str = "embedded") -> str:
    whole = hashlib.sha256()
    for weights in sorted(folder.rglob("*.safetensors")):
        stat = weights.stat()
        whole.update(_sha256(weights.resolve(), stat.st_mtime_ns, stat.st_size))
    return f"{kind}-{whole.hexdigest()[:16]}"


@cache
def _sha256(path: Path, modified: int, size: int) -> bytes:
    """The hash of a file, read once in a process while its time and size stay the same: it may hold gigabytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
