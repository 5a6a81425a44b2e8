"""The drift monitor: the last window of the prompt log against the champion's frozen reference."""

import hashlib
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.core import clock
from tasks.core.clip import Clip
from tasks.core.data.prompt_log import PromptLine, read_lines
from tasks.core.documents import render
from tasks.core.drift import DriftProfile, DriftReport, check, fit_profile, novelty
from tasks.core.errors import ObjectExists, ReferenceTooSmall
from tasks.core.records import DriftRecord
from tasks.core.registry.ledger import Entry, history, profile_generation
from tasks.core.settings import Settings
from tasks.core.specs import MonitorSpec
from tasks.core.store import Store

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
MOST_REFERENCE = 20_000  # rows, the newest
FEWEST_BLOCK = 400  # rows


def run_check(store: Store, settings: Settings, spec: MonitorSpec, clip: Clip, sample: int) -> DriftRecord:
    """Check the window that ends now and keep the report; `sample` fresh prompts are picked at most."""
    end = clock.now()
    start = end - timedelta(hours=spec.window_hours)
    window = read_lines(store, settings.model, start, end)
    entries = history(store, settings.model)
    found = _compare(store, settings, spec, clip, entries, window, start, sample)
    key = f"drift/{settings.model}/reports/{end:%Y%m%dT%H%M%S%f}/report.json"
    record = DriftRecord(
        key=key,
        time=end,
        start=start,
        end=end,
        generation=entries[-1].generation if entries else 0,
        requests=len(window),
        **found,
    )
    store.write(key, render(record))
    return record


def _compare(
    store: Store,
    settings: Settings,
    spec: MonitorSpec,
    clip: Clip,
    entries: list[Entry],
    window: list[PromptLine],
    start: datetime,
    sample: int,
) -> dict[str, object]:
    nothing: dict[str, object] = {"drift": None, "reference_requests": 0}
    if not entries:
        return nothing | {
            "verdict": "provisional",
            "says": "no model has been promoted yet: there is nothing to drift from",
        }
    profile, rows = _profile(store, settings, spec, clip, entries, start, len(window))
    if profile is None:
        says = f"the reference has {rows} requests of the {spec.drift.min_reference} it needs"
        return nothing | {"verdict": "provisional", "says": says, "reference_requests": rows}
    report, fresh = _check(profile, window, clip, settings, sample)
    return {
        "verdict": report.verdict,
        "says": _says(report),
        "reference_requests": profile.card.rows_a + profile.card.rows_b,
        "drift": report,
        "fresh": fresh,
    }


def _says(report: DriftReport) -> str:
    if report.verdict == "insufficient_data":
        return f"{report.n} requests are too few to judge"
    return (
        f"PSI {report.psi:.3f} (threshold {report.threshold:g}, p {report.p_value:.1e}) over {report.n} requests: "
        f"about {report.new_traffic_share:.0%} of the traffic is new"
    )


def _profile(
    store: Store, settings: Settings, spec: MonitorSpec, clip: Clip, entries: list[Entry], end: datetime, window: int
) -> tuple[DriftProfile | None, int]:
    """The frozen profile of the champion, fitted when its traffic first suffices; else how much there is."""
    generation = profile_generation(entries)
    key = f"drift/{settings.model}/profiles/{generation:06d}-{_slug(clip.hash)}.safetensors"
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "profile.safetensors"
        if store.exists(key):
            path.write_bytes(store.read(key))
            return DriftProfile.load(path), 0
        begin = next(e for e in entries if e.generation == generation).traffic_from or BEGINNING
        lines = read_lines(store, settings.model, begin, end)[-MOST_REFERENCE:]
        if not lines:
            return None, 0
        blocks = np.arange(len(lines)) // max(FEWEST_BLOCK, 2 * window)
        embedded = clip.encode_texts([line.prompt for line in lines])
        try:
            profile = fit_profile(embedded, encoder=clip.hash, groups=_groups(lines), blocks=blocks, spec=spec.drift)
        except ReferenceTooSmall as small:
            return None, small.rows
        profile.save(path)
        try:
            store.create(key, path.read_bytes())
        except ObjectExists:  # another monitor froze it first: its profile is in force
            path.write_bytes(store.read(key))
        return DriftProfile.load(path), 0


def _check(
    profile: DriftProfile, window: list[PromptLine], clip: Clip, settings: Settings, sample: int
) -> tuple[DriftReport, tuple[str, ...]]:
    embedded = clip.encode_texts([line.prompt for line in window]).reshape(len(window), profile.card.dimension)
    groups = _groups(window)
    report = check(profile, embedded, encoder=clip.hash, groups=groups, null_cache=settings.cache / "null")
    if report.verdict not in ("warn", "retrain"):
        return report, ()
    order = np.argsort(-novelty(profile, embedded, groups=groups), kind="stable")
    prompts = list(dict.fromkeys(window[i].prompt for i in order[: max(sample, int(0.4 * len(order)))]))
    chosen = np.linspace(0, len(prompts) - 1, min(sample, len(prompts))).astype(int)
    return report, tuple(prompts[i] for i in chosen)


def _groups(lines: list[PromptLine]) -> npt.NDArray[np.int64]:
    """A number for each session, stable over processes."""
    return np.array([int(hashlib.sha256(line.session.encode()).hexdigest()[:15], 16) for line in lines], np.int64)


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-._" else "-" for c in text)
