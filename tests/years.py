"""The store of a model with many generations behind it, written file by file: no test waits for years."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest, PublishRequest
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.monitoring.reference import ReferenceRecord
from tasks.core.registry.ledger import history
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore, conditional_writes
from tasks.core.store.documents import render
from tasks.core.store.journal import EVERY, Snapshot
from tests.adire import installed
from tests.candidates import QUICK, evaluated

RELEASES = 5  # that take turns: each is written, and verified, as a whole


def fill(root: Path, model: ModelConfig, generations: int) -> FolderStore:
    """A store with so many generations, a multiple of ten, each with its evaluation, decisions, check and events."""
    store = FolderStore(root)
    conditional_writes._tried.add(store.url)
    apply_config(store, model)
    for number in range(RELEASES):
        evaluation = evaluated(store, f"t{number}", number)
        promote(installed(store), model, PromoteRequest(evaluation=evaluation, gate=QUICK))
    publish(installed(store), model, PublishRequest())
    _repeat_ledger(store, model.name, generations)
    publish(installed(store), model, PublishRequest())
    _repeat(root, f"models/{model.name}/results/evaluate/evaluation-t0-0.json", generations)
    _freeze(root / "models" / model.name / "drift/profiles", generations)
    return store


def _freeze(folder: Path, count: int) -> None:
    """A reference for each generation."""
    now = datetime.now(UTC)
    (folder / "frozen").mkdir(parents=True)
    for number in range(1, count + 1):
        span = {"begin": now, "end": now, "rows": 4000, "phi": 1.5, "fitted": now, "arrays": ""}
        record = ReferenceRecord.model_validate({"generation": number, "encoder": "embedded"} | span)
        (folder / "frozen" / f"{number:06d}-embedded.json").write_bytes(render(record))


def _repeat_ledger(store: FolderStore, model: str, count: int) -> None:
    """More entries: earlier releases are promoted again in turn, an hour after each other, a month ago."""
    first, folder = history(store, model), Path(store.url.removeprefix("file://")) / "models" / model
    begin = datetime.now(UTC) - timedelta(days=30, hours=count)
    texts = []
    for number in range(1, count + 1):
        entry = first[(number - 1) % RELEASES].model_copy(
            update={"generation": number, "evaluation": f"e{number}", "time": begin + timedelta(hours=number)}
        )
        texts.append(render(entry).decode())
        (folder / "promotions" / f"{number:06d}.json").write_text(texts[-1])
    (folder / "promotions" / "snapshot").write_bytes(render(Snapshot(documents=tuple(texts))))
    assert count % EVERY == 0


def _repeat(root: Path, key: str, count: int) -> None:
    """Copies of a document under other names, with their key in it."""
    document: dict[str, Any] = json.loads((root / key).read_text())
    for number in range(count):
        name = f"old-{number}"
        (root / key).with_name(f"{name}.json").write_text(json.dumps(document | {"key": name}))
