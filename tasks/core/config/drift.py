"""The parameters of the drift detector, and their defaults."""

from typing import Self

from pydantic import Field, model_validator

from tasks.core.config.base import Spec


class DriftSpec(Spec):
    """Sizes and thresholds of the detector; the defaults are those that DESIGN.md argues for."""

    clusters: int = Field(32, ge=2, le=256, description="k-means clusters of the feature map")
    folds: int = Field(5, ge=2, le=20, description="cross-fitting folds of the window")
    bins: int = Field(10, ge=4, le=50, description="quantile bins of the PSI; 0.1 and 0.2 are meant for 10")
    warn_psi: float = Field(0.1, gt=0, le=5, description="PSI from which a window is worth a warning")
    retrain_psi: float = Field(0.2, gt=0, le=5, description="PSI from which a window is worth a training run")
    warn_p: float = Field(0.001, gt=0, lt=1, description="a warning needs a p-value below this")
    retrain_p: float = Field(0.05 / 720, gt=0, lt=1, description="a retrain needs a p-value below this (720 checks)")
    min_effective: int = Field(200, ge=50, description="effective rows below which a window decides nothing")
    min_reference: int = Field(2000, ge=1000, description="reference rows below which a profile is provisional")
    max_reference: int = Field(20_000, ge=1000, description="reference rows beyond which a sample of groups is taken")
    session_cap: int = Field(20, ge=1, le=100, description="rows that one session or text may count for")
    draws: int = Field(400_000, ge=1000, le=10_000_000, description="Monte Carlo draws of the null distribution")

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
