"""A check of the monitor: the last window of the prompt log against the active reference."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import MonitorSpec
from tasks.core.data.dataset import load_manifest
from tasks.core.data.pins import pinned_version
from tasks.core.drift import DriftProfile, DriftReport, check
from tasks.core.drift.rows import Floats, Ints
from tasks.core.errors import DatasetUnusable
from tasks.core.installation import Installation
from tasks.core.models.clip import Clip
from tasks.core.monitoring.embeddings import Batch, EmbeddingCache
from tasks.core.monitoring.explanation import WindowExplanation, explain_window, largest_share, session_advice
from tasks.core.monitoring.log_cache import Hour, forget_hours, read_hours, window_state
from tasks.core.monitoring.records import DriftRecord, recent_records, report_key, without_prompts, write_record
from tasks.core.monitoring.reference import (
    ReferenceRecord,
    find_record,
    fit,
    freeze,
    generation_in_force,
    has_enough_traffic,
    load_profile,
    reference_begin,
    reference_lines,
    session_groups,
)
from tasks.core.registry.ledger import Entry, history
from tasks.core.traffic.prompt_log import PromptLine

REMEMBERED = timedelta(days=31)  # age up to which an hour's log is cached as one object


@dataclass(frozen=True)
class Window:
    """The input of a check: the hours of the log up to `end`, and the generations."""

    start: datetime
    end: datetime
    hours: list[Hour]
    entries: list[Entry]

    @property
    def lines(self) -> list[PromptLine]:
        """All lines, in the order of time."""
        return [line for hour in self.hours for line in hour.lines]


@dataclass(frozen=True)
class Finding:
    """The result of a check; None where there was nothing to compare with."""

    profile: DriftProfile | None = None
    report: DriftReport | None = None
    explanation: WindowExplanation = field(default_factory=WindowExplanation)


class DriftCheck:
    """One check of a model: its window, which ends now or at `end`, and the active reference are read once."""

    def __init__(
        self,
        installation: Installation,
        model: ModelConfig,
        spec: MonitorSpec,
        clip: Clip,
        end: datetime | None = None,
    ) -> None:
        self.installation, self.model, self.spec, self.clip = installation, model, spec, clip
        self.end = end or clock.now()
        self.store = installation.store
        self.cache = EmbeddingCache(self.store, model.name, clip.hash, installation.settings.cache)

    @cached_property
    def window(self) -> Window:
        """The hours of the prompt log up to the end."""
        end = self.end
        start = end - timedelta(hours=self.spec.window_hours)
        hours = read_hours(self.store, self.model.name, start, end)
        return Window(start, end, hours, history(self.store, self.model.name))

    @cached_property
    def generation(self) -> int:
        """The generation whose reference counts: the pinned one, or the champion's; 0 before the first promotion."""
        entries = self.window.entries
        return generation_in_force(self.store, self.model.name, entries) if entries else 0

    @cached_property
    def reference(self) -> tuple[DriftProfile | None, bool]:
        """The active reference, or None, and whether it is frozen, which it is once it has enough traffic."""
        window = self.window
        if not window.entries:
            return None, False
        if record := self._find_frozen():
            return load_profile(self.store, record), True
        lines = self._reference_lines
        profile = fit(lines, self.cache, self.clip.encode_texts, self.spec)
        if profile is None or not has_enough_traffic(profile, lines, self.spec):
            return profile, False
        return freeze(self.store, self.model.name, profile, self.generation, (lines[0].time, window.start))[0], True

    @cached_property
    def rows(self) -> Floats:
        """The embeddings of the window's lines, float32 [n, d]."""
        return self.cache.embed(self.window.lines, self.clip.encode_texts)

    def new_prompts(self) -> Batch:
        """The distinct texts of this check without an embedding, by their places."""
        if not self.window.entries:
            return {}
        known = [] if self._find_frozen() else self._reference_lines
        return self.cache.missing([*known, *self.window.lines], self._captions)

    def run(self) -> DriftRecord:
        """Compare the window with the reference, and store the record.

        Raises:
            ReferenceForeign: the reference was embedded by another encoder.
        """
        self.cache.add(self.new_prompts(), self.clip.encode_texts)  # what no other process has embedded
        record = self._record(self._find(self.model.preset.evaluation.drifted))
        write_record(self.store, record)
        self._forget()
        return record

    def past(self, record: DriftRecord) -> list[DriftRecord]:
        """The newest checks up to this one, oldest first, without their prompts."""
        found = {past.key: past for past in [*self._recent, without_prompts(record)] if past.time <= record.time}
        return sorted(found.values(), key=lambda past: past.time)

    @cached_property
    def _recent(self) -> list[DriftRecord]:
        return recent_records(self.store, self.model.name)

    def _forget(self) -> None:
        """Delete what was derived from hours that neither a window nor a reference will need."""
        self.cache.merge_captions(self._captions)
        lines = self._reference_lines if self.window.entries and not self.reference[1] else []
        before = min([self.window.start - REMEMBERED, *(line.time for line in lines[:1])])
        forget_hours(self.store, self.model.name, before)
        self.cache.forget(before)

    def _find(self, sample: int) -> Finding:
        """The finding, with a sample of at most `sample` new prompts."""
        profile, frozen = self.reference
        if profile is None:
            return Finding()
        texts = [line.prompt for line in self.window.lines]
        rows = self.rows.reshape(-1, profile.card.dimension)
        groups = session_groups(self.window.lines)
        report = self._compare(profile, rows, groups)
        if not frozen:
            report = report.model_copy(update={"verdict": "provisional"})
        if report.verdict not in ("warn", "retrain"):
            return Finding(profile, report)
        captions = self.cache.rows(self._captions).reshape(-1, profile.card.dimension)
        return Finding(profile, report, explain_window(profile, rows, texts, groups, captions, sample))

    def _compare(self, profile: DriftProfile, rows: Floats, groups: Ints) -> DriftReport:
        return check(
            profile,
            rows,
            groups=groups,
            encoder=self.clip.hash,
            state=window_state(self.store, self.model.name, profile, self.window.hours, rows, groups),
            null_cache=self.installation.settings.cache / "null",
        )

    def _find_frozen(self) -> ReferenceRecord | None:
        """Looked up at each call: another monitor may have frozen the reference since."""
        return find_record(self.store, self.model.name, self.generation, self.clip.hash)

    @cached_property
    def _reference_lines(self) -> list[PromptLine]:
        begin = reference_begin(self.window.entries, self.generation)
        return reference_lines(self.store, self.model.name, begin, self.window.start)

    @cached_property
    def _captions(self) -> list[str]:
        try:
            version = pinned_version(self.store, self.model.name, self.model.dataset)
            manifest = load_manifest(self.store, self.model.dataset, version)
        except DatasetUnusable:
            return []
        return list(dict.fromkeys(item.caption for item in manifest.items))

    def _record(self, found: Finding) -> DriftRecord:
        window, card = self.window, found.profile.card if found.profile else None
        entries, lines = window.entries, window.lines
        verdict = found.report.verdict if found.report else "provisional"
        is_open = bool(entries) and verdict in {"insufficient_data", "provisional"}
        advice = session_advice(lines, self.spec.drift.session_cap) if is_open else ""
        says = _summary(window, found, self.spec)
        return DriftRecord(
            key=report_key(self.model.name, window.end),
            model=self.model.name,
            time=window.end,
            start=window.start,
            end=window.end,
            generation=entries[-1].generation if entries else 0,
            reference_generation=self.generation,
            verdict=verdict,
            says=f"{says}; {advice}" if advice else says,
            requests=len(lines),
            reference_requests=card.rows_a + card.rows_b if card else 0,
            drift=found.report,
            fresh=found.explanation.sample,
            topics=found.explanation.topics,
            coverage_near=found.explanation.coverage_near,
            largest_session=round(largest_share(lines), 4),
            advice=advice,
            unreadable=tuple(key for hour in window.hours for key in hour.unreadable),
        )


def _summary(window: Window, found: Finding, spec: MonitorSpec) -> str:
    if not window.entries:
        return "no model has been promoted yet: there is no reference to compare with"
    report = found.report
    rows = found.profile.card.rows_a + found.profile.card.rows_b if found.profile else 0
    if report is None or report.verdict == "provisional":
        enough = f"{spec.drift.min_reference}, over {spec.reference_hours:g} hours or more"
        return f"the reference has {rows} requests yet; it needs {enough}"
    if report.verdict == "insufficient_data":
        needed = spec.drift.min_effective
        return f"{report.n} requests, worth {report.n_effective:.0f} independent ones, are too few: {needed} are needed"
    return (
        f"PSI {report.psi:.3f} (threshold {report.threshold:g}, p {report.p_value:.1e}) over {report.n} requests: "
        f"about {report.new_traffic_share:.0%} of the traffic is new"
    )
