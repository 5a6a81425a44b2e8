"""The drift detector: does the traffic still follow the distribution the model was promoted on?

`fit_profile` freezes a reference once for each promoted model, `check` compares a window of traffic with it.
Why it is built this way: DESIGN.md, "The drift detector".
"""

from tasks.core.config.drift import DriftSpec
from tasks.core.drift.detector import Distribution, DriftReport, Verdict, check
from tasks.core.drift.explain import Explanation, Topic, explain
from tasks.core.drift.fit import fit_profile
from tasks.core.drift.null_distribution import NullTable, null_statistics
from tasks.core.drift.profile import DriftProfile
from tasks.core.drift.psi import new_traffic_share
from tasks.core.drift.window_state import WindowState

__all__ = [
    "Distribution",
    "DriftProfile",
    "DriftReport",
    "DriftSpec",
    "Explanation",
    "NullTable",
    "Topic",
    "Verdict",
    "WindowState",
    "check",
    "explain",
    "fit_profile",
    "new_traffic_share",
    "null_statistics",
]
