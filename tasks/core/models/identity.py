"""Which base model and which scorer are used: where they lie and what names them. Without torch."""

import hashlib
import re
from functools import cache
from pathlib import Path

from tasks.core.config.installation import ROOT
from tasks.core.config.model import EMBEDDED
from tasks.core.errors import ModelUnusable

EMBEDDED_FOLDER = ROOT / "infra" / "base" / "model"
WEIGHTS = "pytorch_lora_weights.safetensors"  # the file of an adapter, as diffusers names it
LOCAL = "local-dir:"  # open_clip's address of a folder
FOLDER_NAME = re.compile(r"(embedded|local)-[0-9a-f]{16}")  # of a base that lies in a folder
CONTENT = (".safetensors", ".json", ".txt")  # files that a base is named by: weights, configurations, vocabularies
SECONDS = 10.0  # to wait for the Hub


def locate(base: str) -> tuple[str, str | None]:
    """Where the base model is: a folder or a Hub id, and its revision.

    Without a revision it is the Hub's newest commit, asked for once in a process; while the Hub cannot be reached the
    newest one in the local cache, and None where there is none.
    """
    if base == EMBEDDED:
        return str(EMBEDDED_FOLDER / "pipeline"), None
    if Path(base).is_dir():
        return base, None
    name, _, revision = base.partition("@")
    return name, revision or _commit(name)


def base_fingerprint(base: str) -> str:
    """Names the base model: a folder by its content, wherever it lies; one of the Hub by its id and revision."""
    name, revision = locate(base)
    if base == EMBEDDED:
        return _fingerprint(Path(name), suffixes=CONTENT)
    if Path(name).is_dir():
        return _fingerprint(Path(name), "local", CONTENT)
    return f"{name}@{revision}" if revision else name


def is_hub_name(fingerprint: str) -> bool:
    """Whether a base's fingerprint is an id of the Hub, not that of a folder's content."""
    return bool(fingerprint) and not FOLDER_NAME.fullmatch(fingerprint)


def pinned(base: str, fingerprint: str) -> str:
    """The base to load for what was made with the base of this fingerprint: its commit where it is of the Hub."""
    return fingerprint if is_hub_name(fingerprint) else base


def _commit(name: str) -> str | None:
    """The newest commit of a Hub model."""
    from httpx2 import HTTPError  # noqa: PLC0415  what huggingface_hub asks with
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415  late: only a base of the Hub needs it

    try:
        return _asked(name)
    except (HTTPError, OSError):  # no connection, or a refusal
        found = try_to_load_from_cache(name, "model_index.json")
        return Path(found).parent.name if isinstance(found, str) else None
    except ValueError as error:
        raise ModelUnusable(
            name, f"is neither a folder nor an id of the Hub: {error}; check the model's base"
        ) from error


@cache
def _asked(name: str) -> str | None:
    """The newest commit by the Hub, asked once in a process: a run must not change its base."""
    from huggingface_hub import HfApi  # noqa: PLC0415

    return HfApi().model_info(name, timeout=SECONDS).sha


def scorer_fingerprint(scorer: str) -> str:
    """Names the encoder: embeddings of different ones are never compared."""
    if scorer == EMBEDDED:
        return _fingerprint(EMBEDDED_FOLDER / "clip")
    if scorer.startswith(LOCAL):
        return _fingerprint(Path(scorer.removeprefix(LOCAL)), "local")
    return scorer


def _fingerprint(folder: Path, kind: str = "embedded", suffixes: tuple[str, ...] = (".safetensors",)) -> str:
    whole = hashlib.sha256()
    for weights in sorted(path for path in folder.rglob("*") if path.suffix in suffixes):
        stat = weights.stat()
        whole.update(_sha256(weights.resolve(), stat.st_mtime_ns, stat.st_size))
    return f"{kind}-{whole.hexdigest()[:16]}"


@cache
def _sha256(path: Path, modified: int, size: int) -> bytes:
    """The hash of a file, read once in a process while its time and size stay the same: it may hold gigabytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
