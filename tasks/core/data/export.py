"""Export of a dataset version as a Hugging Face imagefolder, with Croissant metadata."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from tasks.core.data.croissant import JSON_LINES, ExportedFile, ExportFacts, describe
from tasks.core.data.dataset import Item, Manifest, blobs
from tasks.core.data.picture_validation import HEIF_BRANDS
from tasks.core.data.remarks import counted
from tasks.core.data.split import split
from tasks.core.errors import DyeworksError
from tasks.core.store import Store

CARD, CROISSANT, TABLE = "README.md", "croissant.json", "metadata.jsonl"


class ExportRefused(DyeworksError):
    """There is something where the export would be."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} exists and is no empty folder; name another, or remove it")
        self.folder = folder


def export_version(store: Store, manifest: Manifest, licence: str, folder: Path) -> dict[str, int]:
    """Write the whole folder, or nothing; returns the number of pictures by split.

    Pictures are as they were stored, named by their content. With held-out pictures, `validation` has them and their
    near-copies; without, all are in `train`.

    Raises:
        ExportRefused: the folder exists and is not empty.
        DatasetUnusable: a picture is damaged.
    """
    target = Path(os.path.normpath(folder.absolute()))
    _require_free(target)
    there = target.exists()  # such as a container's volume, which cannot be replaced
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target if there else target.parent, prefix=f".{target.name}-") as place:
        made = Path(place) / target.name
        made.mkdir()
        parts = _parts(store, manifest)
        files = [file for part, items in parts.items() for file in _write_part(store, manifest, made, part, items)]
        _write_facts(manifest, licence, made, files, parts)
        if there:
            for name in (*parts, CARD, CROISSANT):  # what describes the others comes last
                (made / name).rename(target / name)
        else:
            _require_free(target)
            made.replace(target)
    return {part: len(items) for part, items in parts.items()}


def _require_free(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise ExportRefused(target)


def _parts(store: Store, manifest: Manifest) -> dict[str, tuple[Item, ...]]:
    """The pictures by split."""
    sides = split(store, manifest)
    if not sides.held:
        return {"train": manifest.items}
    return {"train": sides.train, "validation": sides.held + sides.left_out}


def _write_part(
    store: Store, manifest: Manifest, folder: Path, part: str, items: Iterable[Item]
) -> Iterator[ExportedFile]:
    (folder / part).mkdir()
    lines = []
    for item, data in blobs(store, manifest.dataset, items):
        ending, kind = _kind(data)
        name = f"{item.sha256}.{ending}"
        lines.append(json.dumps({"file_name": name, "text": item.caption}, ensure_ascii=False))
        yield _write(folder, f"{part}/{name}", kind, data)
    yield _write(folder, f"{part}/{TABLE}", JSON_LINES, "".join(f"{line}\n" for line in lines).encode())


def _write(folder: Path, path: str, kind: str, data: bytes) -> ExportedFile:
    (folder / path).write_bytes(data)
    return ExportedFile(path, kind, hashlib.sha256(data).hexdigest())


def _kind(data: bytes) -> tuple[str, str]:
    """Ending and MIME type of a picture that an ingest has taken."""
    if data.startswith(b"\xff\xd8"):
        return "jpg", "image/jpeg"
    if data.startswith(b"\x89PNG"):
        return "png", "image/png"
    if data.startswith(b"RIFF"):
        return "webp", "image/webp"
    return ("heic", "image/heic") if data[8:12] in HEIF_BRANDS else ("avif", "image/avif")


def _write_facts(
    manifest: Manifest, licence: str, folder: Path, files: list[ExportedFile], parts: dict[str, tuple[Item, ...]]
) -> None:
    description = (
        f"Version {manifest.version} of the dataset {manifest.dataset}: "
        f"{counted(len(manifest.items), 'picture')} with captions, made {manifest.created:%Y-%m-%d} by dyeworks."
    )
    facts = ExportFacts(manifest.dataset, manifest.version, manifest.created, licence, description)
    card = _card(facts, {part: len(items) for part, items in parts.items()})
    written = [*files, _write(folder, CARD, "text/markdown", card.encode())]
    (folder / CROISSANT).write_text(
        json.dumps(describe(facts, written), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _card(facts: ExportFacts, parts: dict[str, int]) -> str:
    """The dataset card, by the Hub's rules."""
    front = {
        "license": facts.licence,
        "pretty_name": facts.dataset,
        "task_categories": ["text-to-image"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": part, "path": f"{part}/*"} for part in parts],
            }
        ],
    }
    counts = "\n".join(f"| {part} | {count:,} |" for part, count in parts.items())
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {facts.dataset}\n\n{facts.description}\n\n"
        f"| split | pictures |\n| --- | --- |\n{counts}\n\n"
        f"Pictures are named by the SHA-256 of their content, captions are in `{TABLE}` beside them, and `{CROISSANT}` "
        'describes all files. `datasets.load_dataset("imagefolder", data_dir=...)` reads the folder.\n'
    )
