"""The check: one window of traffic against one profile."""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from tasks.core.drift.null import NullTable, null_statistics, on_grid
from tasks.core.drift.profile import DriftProfile
from tasks.core.drift.rows import Floats, Ints, capped, embeddings, fold_of, group_ids
from tasks.core.drift.score import new_traffic_share, pooled_counts, psi
from tasks.core.drift.spec import DriftSpec
from tasks.core.errors import EncoderMismatch, NullMismatch

Verdict = Literal["insufficient_data", "stable", "warn", "retrain"]


class Distribution(BaseModel):
    """Scores along the window's directions, in standard deviations of the reference's: shares of equal bins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    edges: list[float] = Field(description="k + 1 edges, ascending; what lies outside is counted in the outer bins")
    reference: list[float] = Field(description="the reference's share of each of the k bins")
    current: list[float] = Field(description="the window's share of each of the k bins")


class DriftReport(BaseModel):
    """What a check found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    verdict: Verdict = Field(description="what the numbers ask for; the retrain policy decides")
    psi: float = Field(description="PSI less its mean when nothing has drifted; may be below zero")
    psi_raw: float = Field(ge=0, description="PSI as counted")
    p_value: float = Field(gt=0, le=1, description="how often at least psi_raw is met when nothing has drifted")
    threshold: float = Field(description="the PSI from which a retrain is asked for")
    n: int = Field(ge=0, description="rows counted, after the cap on rows a group")
    n_effective: float = Field(ge=0, description="n / phi: what they are worth as independent rows")
    new_traffic_share: float = Field(ge=0, le=1, description="share of wholly new traffic that would give this PSI")
    histogram: list[float] = Field(description="the window's share of each bin; even when nothing has drifted")
    distribution: Distribution | None = Field(None, description="for the plot; none when there was nothing to score")


def check(
    profile: DriftProfile,
    current: npt.ArrayLike,
    *,
    encoder: str,
    groups: npt.ArrayLike | None = None,
    null: NullTable | None = None,
    null_cache: Path | None = None,
    seed: int = 0,
) -> DriftReport:
    """Compare a window, float32 [n, d] embedded by `encoder` (its hash), with the profile.

    `groups` (int64 [n]) are of the kind the profile was fitted with. The null distribution is `null`, or comes from
    `null_statistics` and the folder `null_cache`. Raises `EncoderMismatch`, `BadEmbeddings`, `NullMismatch`.
    """
    if encoder != profile.card.encoder:
        raise EncoderMismatch(profile.card.encoder, encoder)
    spec, phi = profile.card.spec, profile.card.phi
    rows, ids = _window(profile, current, groups, seed)
    mapped, known = profile.features(rows), profile.features(profile.reference)
    fold = fold_of(ids, spec.folds)
    counts = pooled_counts(mapped, fold, known, profile.features, spec=spec, seed=seed)
    table = _table(spec, len(rows) / phi, len(known) / phi, null, null_cache) if len(rows) else None
    return _report(counts, table, spec, phi)


def novelty(
    profile: DriftProfile, current: npt.ArrayLike, *, groups: npt.ArrayLike | None = None, seed: int = 0
) -> Floats:
    """Return float32 [n]: how far each row (float32 [n, d]) lies along the window's own direction; high is new.

    It picks prompts to show and decides nothing: the direction is not cross-fitted. Raises `BadEmbeddings`.
    """
    rows = embeddings("current", current, profile.card.dimension)
    kept, _ = _window(profile, rows, groups, seed)
    if not len(kept):
        return np.zeros(0, dtype=np.float32)
    direction = profile.features.direction(profile.features(kept).mean(axis=0, dtype=np.float64))
    return np.asarray((profile.features(rows) - profile.features.mean) @ direction, dtype=np.float32)


def _window(
    profile: DriftProfile, current: npt.ArrayLike, groups: npt.ArrayLike | None, seed: int
) -> tuple[Floats, Ints]:
    rows = embeddings("current", current, profile.card.dimension)
    ids = group_ids(rows, groups)
    kept = capped(ids, profile.card.spec.session_cap, np.random.default_rng(seed))
    return rows[kept], ids[kept]


def _table(spec: DriftSpec, n: float, m: float, null: NullTable | None, cache: Path | None) -> NullTable:
    if null is None:
        return null_statistics(n, m, bins=spec.bins, draws=spec.draws, cache=cache)
    wanted, given = (on_grid(n), on_grid(m), spec.bins), (null.n_eff, null.reference_eff, null.bins)
    if wanted != given:
        raise NullMismatch(wanted, given)
    return null


def _report(counts: Ints, table: NullTable | None, spec: DriftSpec, phi: float) -> DriftReport:
    n, raw = int(counts.sum()), float(psi(counts / phi))
    value, p = (raw - table.mean, table.p_value(raw)) if table else (0.0, 1.0)
    return DriftReport(
        verdict=verdict_of(value, p, n / phi, spec),
        psi=value,
        psi_raw=raw,
        p_value=p,
        threshold=spec.retrain_psi,
        n=n,
        n_effective=n / phi,
        new_traffic_share=new_traffic_share(value, spec.bins),
        histogram=(counts / max(n, 1)).tolist(),
    )


def verdict_of(value: float, p: float, n_effective: float, spec: DriftSpec) -> Verdict:
    """What a PSI, its p-value and the effective rows ask for."""
    if n_effective < spec.min_effective:
        return "insufficient_data"
    if value >= spec.retrain_psi and p < spec.retrain_p:
        return "retrain"
    return "warn" if value >= spec.warn_psi and p < spec.warn_p else "stable"
