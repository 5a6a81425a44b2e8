"""Fixtures for tests of the monitor: a promoted model, its log at a fixed time, and real parts that count calls."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np

from infra.base.visitors import log_lines
from tasks.core.config.drift import DriftSpec
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import MonitorSpec
from tasks.core.drift.rows import Floats
from tasks.core.models.clip import Clip
from tasks.core.registry.ledger import Entry, append
from tasks.core.store import Store
from tasks.core.traffic.prompt_log import PromptLine, write_lines

MODEL = "adire"
NOW = datetime(2026, 3, 20, 12, 30, tzinfo=UTC)
DRIFT = DriftSpec(draws=20_000, min_effective=50, min_reference=1000, clusters=8)
SPEC = MonitorSpec(window_hours=24, reference_hours=0, drift=DRIFT)


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


class CountingClip(Clip):
    """The embedded encoder; counts the calls for each text, and embeds no text twice."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model, "cpu")
        self.asked: Counter[str] = Counter()
        self.known: dict[str, Floats] = {}

    def encode_texts(self, texts: list[str]) -> Floats:
        self.asked.update(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        self.known |= dict(zip(new, super().encode_texts(new), strict=True))
        return np.array([self.known[text] for text in texts], np.float32)


class TurnedClip(Clip):
    """Another encoder: the first one's vectors, projected to half as many dimensions by chance."""

    def __init__(self, first: Clip) -> None:
        super().__init__(first.model)
        self.first, self.hash = first, "turned-1"

    def encode_texts(self, texts: list[str]) -> Floats:
        rows = self.first.encode_texts(texts)
        turned = rows @ np.random.default_rng(5).standard_normal((rows.shape[1], rows.shape[1] // 2))
        return np.asarray(turned / np.linalg.norm(turned, axis=1, keepdims=True), np.float32)


def line(hours: float, name: str = "", prompt: str = "rings in adire_style", session: str = "s") -> PromptLine:
    """A line of so many hours ago."""
    return line_at(ago(hours), name or f"at-{hours}", prompt, session)


def line_at(time: datetime, name: str, prompt: str, session: str = "s") -> PromptLine:
    return PromptLine(
        request_id=name,
        time=time,
        prompt=prompt,
        seed=1,
        size=64,
        steps=12,
        release="base",
        adapter="",
        latency_s=0.5,
        session=session,
    )


def promote(store: Store, generation: int = 1, restores: int = 0, since: datetime | None = None) -> None:
    entry = Entry(
        generation=generation,
        action="roll_back" if restores else "promote",
        release=f"release-{generation}",
        dataset_version="v1",
        evaluation="e",
        restores=restores,
        traffic_from=since,
        actor="gate",
        reason="better",
        time=NOW,
    )
    append(store, MODEL, entry)


def visit(store: Store, count: int, taste: dict[str, float], hours: tuple[float, float], seed: int = 1) -> None:
    """Add `count` lines to the log, from so many hours ago to so many."""
    write_lines(store, MODEL, log_lines(count, taste, ago(hours[0]), ago(hours[1]), seed))
