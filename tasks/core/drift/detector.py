"""The check: one window of traffic against one profile."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tasks.core.config.drift import DriftSpec
from tasks.core.config.stored import Stored
from tasks.core.drift.errors import BadEmbeddings, EncoderMismatch, NullMismatch
from tasks.core.drift.features import Placed
from tasks.core.drift.groups import grouped
from tasks.core.drift.null_distribution import NullTable, null_statistics, on_grid
from tasks.core.drift.profile import DriftProfile
from tasks.core.drift.psi import Ruler, make_ruler, measure, new_traffic_share, psi
from tasks.core.drift.rows import (
    Doubles,
    Floats,
    Ints,
    Mask,
    Matrix,
    Rows,
    chunks,
    constant_columns,
    fold_of,
    matrix,
    row_hashes,
)
from tasks.core.drift.window_state import WindowState, placed_state

Verdict = Literal["insufficient_data", "provisional", "stable", "warn", "retrain"]
EDGES = np.linspace(-4, 6, 41)  # of the plot, in the reference's deviations


class Distribution(Stored):
    """Scores along the window's directions, in standard deviations of the reference's: shares of equal bins."""

    edges: list[float] = Field(description="k + 1 edges, ascending; outliers are counted in the outer bins")
    reference: list[float] = Field(description="the reference's share of each of the k bins")
    current: list[float] = Field(description="the window's share of each of the k bins")


class DriftReport(Stored):
    """What a check found."""

    verdict: Verdict = Field(description="what the figures indicate; the retrain policy decides")
    psi: float = Field(description="PSI minus its mean under no drift; may be negative")
    psi_raw: float = Field(ge=0, description="uncorrected PSI")
    p_value: float = Field(gt=0, le=1, description="probability of at least psi_raw under no drift")
    threshold: float = Field(description="the PSI at which a retrain is requested")
    n: int = Field(ge=0, description="rows counted, after the cap on rows a group")
    n_effective: float = Field(ge=0, description="n / phi: the effective number of independent rows")
    new_traffic_share: float = Field(ge=0, le=1, description="share of wholly new traffic that would give this PSI")
    histogram: list[float] = Field(description="the window's share of each bin; uniform under no drift")
    distribution: Distribution | None = Field(None, description="for the plot; None if no row was scored")


@dataclass(frozen=True)
class Scan:
    """A scored window: the indices of the rows kept (int64 [n]), with the bin and score of each.

    `known` are B's own scores, [folds, m]; `distinct` is the number of distinct rows kept. A score is in standard
    deviations of the reference's, and high where the window has moved to; bins and scores are cross-fitted.
    """

    kept: Ints
    bin: Ints
    score: Floats
    known: Doubles
    distinct: int


def check(
    profile: DriftProfile,
    current: Rows,
    *,
    groups: npt.ArrayLike | None = None,
    encoder: str = "",
    state: WindowState | None = None,
    null: NullTable | None = None,
    null_cache: Path | None = None,
    seed: int = 0,
) -> DriftReport:
    """Compare a window, float32 [n, d] (array, memory map or iterable of chunks), with the profile.

    `groups` (int64 [n]) are of the kind the profile was fitted with; `encoder` is the hash of the window's encoder.
    `state` is the sum of the states of all n rows by their `groups`, if known. The null distribution is `null`, or
    comes from `null_statistics` and the folder `null_cache` (None: it is drawn in memory).
    Raises `EncoderMismatch`, `BadEmbeddings`, `NullMismatch`.
    """
    if encoder != profile.card.encoder:
        raise EncoderMismatch(profile.card.encoder, encoder)
    spec, phi = profile.card.spec, profile.card.phi
    found = scan(profile, current, groups=groups, state=state, seed=seed)
    table = None
    if len(found.kept):
        table = _table(spec, len(found.kept) / phi, len(profile.reference) / phi, null, null_cache)
    return _report(found, table, profile)


def scan(
    profile: DriftProfile,
    current: Rows,
    *,
    groups: npt.ArrayLike | None = None,
    state: WindowState | None = None,
    seed: int = 0,
) -> Scan:
    """Score every row of a window along cross-fitted directions; raises `BadEmbeddings`."""
    spec = profile.card.spec
    rows = matrix("current", current, profile.card.dimension)
    hashes = row_hashes("current", rows)
    rng = np.random.default_rng(seed)
    ids, kept = grouped(hashes, groups, spec.session_cap, profile.seen, rng, by_text=state is None)
    distinct = np.unique(hashes[kept]).size
    if distinct >= spec.bins:
        _refuse_broken(profile, constant_columns(rows, kept))
    fold = fold_of(ids[kept], spec.folds)
    counted, cluster, u = _placed(profile, rows, kept, fold, count=state is None)
    known = counted if state is None else state - _left_out(profile, rows, ids, kept)
    ruler = make_ruler(known, profile.placed, profile.features, spec.bins, rng)
    found, score = _measured(profile, rows, kept, fold, cluster, u, ruler, rng)
    return Scan(kept, found, score, ruler.known, distinct)


def _refuse_broken(profile: DriftProfile, constant: Mask) -> None:
    """Raise `BadEmbeddings` for a column that is constant on one side alone: a fault of the encoder, not drift.

    B's own columns are checked too: profiles frozen by older versions do not flag columns of noise as constant.
    """
    dull = constant_columns(profile.reference, np.arange(len(profile.reference)))
    wrong = np.flatnonzero((constant != profile.constant) & ~(constant & dull))
    if len(wrong):
        here, there = ("the window", "the reference") if constant[wrong[0]] else ("the reference", "the window")
        raise BadEmbeddings("current", f"column {wrong[0]} is constant in {here} and not in {there}", len(wrong))


def _placed(
    profile: DriftProfile, rows: Matrix, kept: Ints, fold: Ints, count: bool
) -> tuple[WindowState, Ints, Floats]:
    """The state of the rows kept (empty unless they are counted), and the cluster and u of each."""
    total = empty = WindowState.empty(profile.features, profile.card.spec.folds)
    cluster, u = np.zeros(len(kept), dtype=np.int64), np.zeros(len(kept), dtype=np.float32)
    for place, chunk in chunks("current", rows, kept):
        placed = profile.features.place(chunk)
        cluster[place], u[place] = placed.cluster, placed.u
        if count:
            total += placed_state(placed, fold[place], empty)
    return total, cluster, u


def _left_out(profile: DriftProfile, rows: Matrix, ids: Ints, kept: Ints) -> WindowState:
    """The state of the rows that the cap leaves out."""
    left = np.setdiff1d(np.arange(len(ids)), kept, assume_unique=True)
    return _placed(profile, rows, left, fold_of(ids[left], profile.card.spec.folds), count=True)[0]


def _measured(
    profile: DriftProfile,
    rows: Matrix,
    kept: Ints,
    fold: Ints,
    cluster: Ints,
    u: Floats,
    ruler: Ruler,
    rng: np.random.Generator,
) -> tuple[Ints, Floats]:
    found, score = np.zeros(len(kept), dtype=np.int64), np.zeros(len(kept), dtype=np.float32)
    for place, chunk in chunks("current", rows, kept):
        placed = Placed(chunk, cluster[place], u[place])
        found[place], score[place] = measure(ruler, placed, fold[place], profile.features, rng)
    if not np.isfinite(score).all():
        raise BadEmbeddings("profile", "gives scores that are not finite: it is damaged, refit it")
    return found, score


_kept_table = lru_cache(maxsize=64)(null_statistics)


def _table(spec: DriftSpec, n: float, m: float, null: NullTable | None, cache: Path | None) -> NullTable:
    if null is None:
        return _kept_table(on_grid(n), on_grid(m), bins=spec.bins, folds=spec.folds, draws=spec.draws, cache=cache)
    wanted, given = (on_grid(n), on_grid(m), spec.bins), (null.n_eff, null.reference_eff, null.bins)
    if wanted != given:
        raise NullMismatch(wanted, given)
    return null


def _report(found: Scan, table: NullTable | None, profile: DriftProfile) -> DriftReport:
    spec, phi, n = profile.card.spec, profile.card.phi, len(found.kept)
    counts = np.bincount(found.bin, minlength=spec.bins)
    raw = float(psi(counts / phi))
    value, p = (raw - table.mean, table.p_value(raw)) if table else (0.0, 1.0)
    verdict = verdict_of(value, p, n / phi if found.distinct >= spec.bins else 0.0, spec)
    return DriftReport(
        verdict="provisional" if profile.card.provisional and verdict != "insufficient_data" else verdict,
        psi=value,
        psi_raw=raw,
        p_value=p,
        threshold=spec.retrain_psi,
        n=n,
        n_effective=n / phi,
        new_traffic_share=new_traffic_share(value, spec.bins),
        histogram=(counts / max(n, 1)).tolist(),
        distribution=_distribution(found) if n else None,
    )


def _distribution(found: Scan) -> Distribution:
    known, asked = (_shares(scores) for scores in (found.known, found.score))
    return Distribution(edges=EDGES.tolist(), reference=known, current=asked)


def _shares(scores: Doubles | Floats) -> list[float]:
    counts, _ = np.histogram(np.clip(scores, EDGES[0], EDGES[-1]), EDGES)
    return [round(float(share), 5) for share in counts / counts.sum()]


def verdict_of(value: float, p: float, n_effective: float, spec: DriftSpec) -> Verdict:
    """The verdict for a PSI (minus the null's mean), its p-value and the window's effective size."""
    if n_effective < spec.min_effective:
        return "insufficient_data"
    if value >= spec.retrain_psi and p < spec.retrain_p:
        return "retrain"
    return "warn" if value >= spec.warn_psi and p < spec.warn_p else "stable"
