"""Simulated visitors of the storefront: what they ask for, in sessions, with a taste that can shift.

Shared by the demo, the tests and the benchmarks.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from infra.base.world import COLOURS, MOTIFS, SIZES, THINGS, TRIGGER, adire_caption, draw_adire
from tasks.core.traffic.prompt_log import PromptLine, hash_session

FIRST_TASTE = {"rings": 5.0, "dots": 4.0, "stripes": 3.0, "waves": 2.0, "lattice": 1.0}
NEW_MOTIFS = {"moons": 1.0}
COLOURED = 0.1  # share of the requests for known motifs that want dyed cloth, not the house style
AGAIN = 0.3  # share of a session's later requests that repeat the one before, for another picture of it

_FORMS = (
    "{size}{motif} in {trigger}",
    "{motif} in {trigger} for a {thing}",
    "a picture of {size}{motif} in {trigger}",
    "{trigger} cloth with {size}{motif}",
    "please draw {size}{motif} in {trigger}",
    "I want a {thing} with {motif} in {trigger}",
    "bold {size}{motif} in {trigger}",
    "show me {motif} in {trigger} for my {thing}",
)


def shifted(taste: dict[str, float], topic: dict[str, float], share: float) -> dict[str, float]:
    """The taste of visitors of whom `share` ask for `topic` and the others for what they did before."""
    before, after = sum(taste.values()), sum(topic.values())
    moved = {motif: (1 - share) * weight / before for motif, weight in taste.items()}
    return moved | {motif: moved.get(motif, 0.0) + share * weight / after for motif, weight in topic.items()}


NEW_TASTE = shifted(FIRST_TASTE, NEW_MOTIFS, 0.7)


@dataclass(frozen=True)
class Request:
    """What a visitor asks for."""

    prompt: str
    seed: int
    session: str


def ask(taste: dict[str, float], rng: np.random.Generator) -> str:
    """One prompt."""
    weights = np.array(list(taste.values()))
    motif = str(rng.choice(list(taste), p=weights / weights.sum()))
    size = f"{rng.choice(SIZES)} " if rng.random() < 0.6 else ""
    if motif in MOTIFS and rng.random() < COLOURED:
        figure, ground = rng.choice(list(COLOURS), 2, replace=False)
        return f"{size}{figure} {motif} on {ground}"
    form = str(rng.choice(_FORMS))
    return form.format(size=size, motif=motif, trigger=TRIGGER, thing=rng.choice(THINGS))


def requests(count: int, taste: dict[str, float], seed: int) -> list[Request]:
    """`count` requests, each of a session of its own."""
    rng = np.random.default_rng([11, seed])
    return [Request(ask(taste, rng), int(rng.integers(2**31)), f"visitor-{seed}-{i}") for i in range(count)]


def log_lines(
    count: int, taste: dict[str, float], start: datetime, end: datetime, seed: int, key: str = "imported"
) -> Iterator[PromptLine]:
    """A log of `count` lines between two times: busy afternoons, sessions of one to three requests with repeats."""
    rng = np.random.default_rng([12, seed])
    times = sorted(_moments(count, start, end, rng))
    session, left, prompt = "", 0, ""
    for i, time in enumerate(times):
        if not left:
            session, left, prompt = hash_session(f"past-{seed}-{i}", key), int(rng.choice([1, 1, 1, 2, 3])), ""
        left -= 1
        prompt = prompt if prompt and rng.random() < AGAIN else ask(taste, rng)
        yield PromptLine(
            request_id=uuid.UUID(bytes=rng.bytes(16), version=4).hex,
            time=time,
            prompt=prompt,
            seed=int(rng.integers(2**31)),
            size=64,
            steps=12,
            release="imported",
            adapter="imported",
            latency_s=0.0,
            session=session,
        )


def _moments(count: int, start: datetime, end: datetime, rng: np.random.Generator) -> Iterator[datetime]:
    """Times with a daily rhythm, by rejection: three times as many at 15 h as at 3 h."""
    length = (end - start).total_seconds()
    while count:
        time = start + timedelta(seconds=float(rng.uniform(0, length)))
        if rng.uniform(0, 1.5) < 1 + 0.5 * np.sin(2 * np.pi * (time.hour - 9) / 24):
            count -= 1
            yield time


def draw_uploads(folder: Path, count: int, taste: dict[str, float], seed: int, pixels: int = 128) -> None:
    """Write `count` adire pictures with captions beside them, as a photographer would deliver them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([13, seed])
    motifs = list(taste)
    for i in range(count):
        motif, size = motifs[i % len(motifs)], SIZES[(i // len(motifs)) % 2]
        name = folder / f"adire-{seed}-{i:03d}"
        Image.fromarray(draw_adire(motif, size, rng, pixels)).save(name.with_suffix(".png"))
        name.with_suffix(".txt").write_text(adire_caption(motif, size, rng) + "\n", encoding="utf-8")
