"""Which base model and which scorer are used: where they lie and what names them. Without torch."""

import hashlib

from tasks.core.settings import EMBEDDED, EMBEDDED_FOLDER, Settings


def locate(settings: Settings) -> tuple[str, str | None]:
    """Where the base model is: a folder or a Hub id, and its revision."""
    if settings.base_model == EMBEDDED:
        return str(EMBEDDED_FOLDER / "pipeline"), None
    name, _, revision = settings.base_model.partition("@")
    return name, revision or None


def base_fingerprint(settings: Settings) -> str:
    """Names the base model: the embedded one by its weights, any other by its id and revision."""
    if settings.base_model != EMBEDDED:
        return settings.base_model
    weights = EMBEDDED_FOLDER / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors"
    return f"embedded-{hashlib.sha256(weights.read_bytes()).hexdigest()[:16]}"


def scorer_fingerprint(settings: Settings) -> str:
    """Names the encoder: embeddings of different ones are never compared."""
    if settings.clip != EMBEDDED:
        return settings.clip
    weights = (EMBEDDED_FOLDER / "clip" / "open_clip_model.safetensors").read_bytes()
    return f"embedded-{hashlib.sha256(weights).hexdigest()[:16]}"
