"""Which base model and which scorer are used: where they lie and what names them. Without torch."""

import hashlib
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
    """Names the base model: the embedded one by all its weights, any other by its id and revision."""
    if settings.base_model != EMBEDDED:
        return settings.base_model
    return _fingerprint(EMBEDDED_FOLDER / "pipeline")


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
        whole.update(hashlib.sha256(weights.read_bytes()).digest())
    return f"{kind}-{whole.hexdigest()[:16]}"
