"""A drift check in words."""

from tasks.core.drift.check import DriftReport
from tasks.core.drift.score import new_traffic_share
from tasks.core.drift.spec import DriftSpec
from tasks.core.records import DriftRecord

HEADLINES = {
    "retrain": "People ask for something new",
    "warn": "People may be starting to ask for something new",
    "stable": "People ask for what they asked for before",
    "insufficient_data": "Too few requests to judge",
    "provisional": "No reference to compare with yet",
}


def headline(record: DriftRecord) -> str:
    """The verdict in a few words."""
    return HEADLINES.get(record.verdict, record.verdict)


def sentence(record: DriftRecord, spec: DriftSpec) -> str:
    """The verdict and the numbers it rests on, as one plain sentence."""
    report = record.drift
    if report is None:
        return f"{record.verdict.capitalize().replace('_', ' ')}: {record.says}."
    if report.verdict == "insufficient_data":
        return (
            f"Too few: {_counted(report)}, and {spec.min_effective} independent ones are needed; nothing was decided."
        )
    return f"{_reason(report, spec)}, over {_counted(report)}: {_new(report)}."


def meaning(spec: DriftSpec) -> str:
    """What the PSI stands for, at both thresholds."""
    low, high = (f"{new_traffic_share(value, spec.bins):.1%}" for value in (spec.warn_psi, spec.retrain_psi))
    return (
        f"The PSI compares where the requests of this window lie with where those of the reference lie; 0 is no "
        f"difference. {spec.warn_psi:g} is what {low} of wholly new requests give, {spec.retrain_psi:g} is what {high} "
        f"give. A little below 0 is chance. p is how often chance alone gives as much: a warning needs p below "
        f"{spec.warn_p:g}, a retrain p below {spec.retrain_p:.1g}. Requests that come in bursts or repeat each other "
        f"tell less than independent ones; the effective number is what they are worth."
    )


def compared(record: DriftRecord) -> str:
    """What the window was held against."""
    if record.drift:
        return f"Compared with the frozen reference of generation {record.generation}."
    if record.generation:
        return f"Compared with nothing: generation {record.generation} has no reference of its own yet."
    return "Compared with nothing: no generation has been promoted yet."


def _reason(report: DriftReport, spec: DriftSpec) -> str:
    value, chance = f"PSI {report.psi:.3f}", f"p {report.p_value:.2g}"
    if report.verdict == "retrain":
        return f"Retrain: {value} is at or over the threshold of {report.threshold:g} ({chance})"
    if report.verdict == "warn" and report.psi < report.threshold:
        return f"Warning: {value} is over {spec.warn_psi:g} and under the threshold of {report.threshold:g} ({chance})"
    if report.verdict == "warn":
        return f"Warning: {value} is over the threshold of {report.threshold:g}, but not surely enough ({chance})"
    if report.psi >= spec.warn_psi:
        return f"Stable: {value} is over {spec.warn_psi:g}, but may well be chance ({chance})"
    return f"Stable: {value} is under {spec.warn_psi:g} and the threshold of {report.threshold:g} ({chance})"


def _counted(report: DriftReport) -> str:
    return f"{report.n:,} requests, worth {report.n_effective:,.0f} independent ones"


def _new(report: DriftReport) -> str:
    share = report.new_traffic_share
    return f"about {share:.0%} of the traffic is new" if share >= 0.005 else "none of the traffic is new, to speak of"
