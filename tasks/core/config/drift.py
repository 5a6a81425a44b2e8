"""The parameters of the drift detector, and their defaults."""

from typing import Self

from pydantic import Field, model_validator

from tasks.core.config.base import Spec


class DriftSpec(Spec):
    """Sizes and thresholds of the drift detector; docs/drift.md says what they rest on."""

    clusters: int = Field(32, ge=2, le=256, description="Clusters of the feature map, by k-means.")
    folds: int = Field(5, ge=2, le=20, description="Cross-fitting folds of the window.")
    bins: int = Field(10, ge=4, le=50, description="Quantile bins of the PSI; 0.1 and 0.2 are meant for 10.")
    warn_psi: float = Field(
        0.1, gt=0, le=5, description="PSI from which on a window is worth a warning; 0.1 is 12.5 % new traffic."
    )
    retrain_psi: float = Field(
        0.2, gt=0, le=5, description="PSI from which on a window is worth a retrain; 0.2 is 18.6 % new traffic."
    )
    warn_p: float = Field(0.001, gt=0, lt=1, description="A warning needs a p-value below this.")
    retrain_p: float = Field(
        0.05 / 720,
        gt=0,
        lt=1,
        description="A retrain needs a p-value below this: 0.05 over the 720 hourly checks of a month.",
    )
    min_effective: int = Field(200, ge=50, description="Effective requests below which a window decides nothing.")
    min_reference: int = Field(2000, ge=1000, description="Requests below which a reference is provisional.")
    max_reference: int = Field(
        20_000, ge=1000, description="Requests of a reference beyond which a sample of whole sessions is taken."
    )
    session_cap: int = Field(20, ge=1, le=100, description="Requests that one session or text may count for.")
    draws: int = Field(
        400_000, ge=1000, le=10_000_000, description="Monte Carlo draws of the distribution without drift."
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if 1 / (self.draws + 1) >= min(self.retrain_p, self.warn_p):
            raise ValueError(f"draws={self.draws} can never give a p-value below retrain_p and warn_p: raise draws")
        if self.max_reference < self.min_reference:
            raise ValueError("max_reference below min_reference: every profile would stay provisional")
        if self.retrain_psi < self.warn_psi or self.retrain_p > self.warn_p:
            raise ValueError("a retrain must need at least what a warning needs, in psi and in p")
        return self


DEFAULT_SPEC = DriftSpec()
