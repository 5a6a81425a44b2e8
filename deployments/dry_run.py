"""What would have fired? `python -m deployments.dry_run [--policy FILE.yaml] [--days N] [--all] [--json]`.

Decides every past drift check anew. FILE is a preset of which `policy` and the thresholds under `monitor.drift` are
read; what it does not name stays as the preset in force has it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import timedelta

from pydantic import ValidationError

from tasks.core import clock
from tasks.core.config.base import explain
from tasks.core.config.drift import DriftSpec
from tasks.core.config.installation import get_settings
from tasks.core.config.presets import PolicySpec, load_preset
from tasks.core.errors import DyeworksError, NothingToReplay, SettingError
from tasks.core.monitoring.records import read_records
from tasks.core.registry import ledger
from tasks.core.retraining.decisions import read_decisions
from tasks.core.retraining.replay import ReplayedCheck, fired, replay
from tasks.core.store import open_store

THRESHOLDS = {"warn_psi", "retrain_psi", "warn_p", "retrain_p", "min_effective"}
ROW = "{:<17}{:<18}{:>7}  {:<10}{:<10}{}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the dry run; 0 when there was something to replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="", metavar="FILE", help="preset with another policy or other thresholds")
    parser.add_argument("--days", type=float, help="only the checks of the last so many days")
    parser.add_argument("--all", action="store_true", help="also the checks at which nothing was to be decided")
    parser.add_argument("--json", action="store_true", help="everything, for machines")
    options = parser.parse_args(arguments)
    try:
        reruns = dry_run(options.policy, options.days)
    except DyeworksError as error:
        print(f"dyeworks: {error}", file=sys.stderr)
        return 1
    print(as_json(reruns) if options.json else as_table(reruns, options.all))
    return 0


def dry_run(name: str, days: float | None) -> list[ReplayedCheck]:
    """Replay the store of the settings; raises NothingToReplay, SettingError, StoreUnusable."""
    settings = get_settings()
    spec, drift = asked(name)
    store = open_store(settings.store)
    records = read_records(store, settings.model)
    if days is not None:
        begin = clock.now() - timedelta(days=days)
        records = [record for record in records if record.time >= begin]
    if not records:
        raise NothingToReplay(settings.model, settings.store, days)
    history = read_decisions(store, settings.model)
    return replay(records, ledger.history(store, settings.model), history, spec, drift)


def asked(name: str) -> tuple[PolicySpec, DriftSpec | None]:
    """The preset in force with what the named one says otherwise; no DriftSpec when that says nothing of drift."""
    now, given = load_preset(), load_preset(name)
    if not name:
        return now.policy, None
    drift = given.monitor.drift.model_dump(exclude_unset=True)
    fixed = {k for k, v in drift.items() if v != getattr(now.monitor.drift, k)} - THRESHOLDS
    if fixed:
        told = ", ".join(f"monitor.drift.{key}" for key in sorted(fixed))
        raise SettingError(name, f"{told} cannot be replayed; the thresholds can: {', '.join(sorted(THRESHOLDS))}")
    spec = now.policy.model_dump() | given.policy.model_dump(exclude_unset=True)
    try:
        judged = DriftSpec.model_validate(now.monitor.drift.model_dump() | drift) if drift else None
    except ValidationError as error:
        raise SettingError(name, f"with the preset in force: {explain(error, DriftSpec)}") from error
    return PolicySpec.model_validate(spec), judged


def as_table(reruns: Sequence[ReplayedCheck], everything: bool) -> str:
    """A line for each check at which something was decided, and a summary."""
    shown = [r for r in reruns if everything or {r.now.action, _then(r)} - {"none", ""}]
    lines = [ROW.format("time (UTC)", "verdict", "psi", "then", "dry run", "reason")] if shown else []
    return "\n".join([*lines, *(_line(rerun) for rerun in shown), *_summary(reruns, len(reruns) - len(shown))])


def _line(rerun: ReplayedCheck) -> str:
    now = rerun.now
    psi = "-" if now.psi is None else f"{now.psi:.3f}"
    return ROW.format(f"{now.time:%Y-%m-%d %H:%M}", now.verdict, psi, _then(rerun) or "-", now.action, now.reason)


def _summary(reruns: Sequence[ReplayedCheck], hidden: int) -> list[str]:
    count, hours = fired(reruns)
    then = sum(_then(rerun) == "retrain" for rerun in reruns)
    quiet = f" ({hidden} with nothing to decide are left out; --all shows them)" if hidden else ""
    span = f"{reruns[0].now.time:%Y-%m-%d %H:%M} to {reruns[-1].now.time:%Y-%m-%d %H:%M}"
    return [
        f"{len(reruns)} checks from {span}{quiet}",
        f"retrains for drift: {then} then, {count} in the dry run, about {hours:.2f} GPU-hours",
    ]


def as_json(reruns: Sequence[ReplayedCheck]) -> str:
    """All checks and the summary."""
    count, hours = fired(reruns)
    checks = [
        {
            "report": rerun.now.report,
            "time": rerun.now.time.isoformat(),
            "verdict": rerun.now.verdict,
            "psi": rerun.now.psi,
            "then": _then(rerun) or None,
            "dry_run": rerun.now.action,
            "reason": rerun.now.reason,
            "gpu_hours": rerun.gpu_hours,
        }
        for rerun in reruns
    ]
    then = sum(_then(rerun) == "retrain" for rerun in reruns)
    summary = {"checks": len(reruns), "fired_then": then, "fired": count, "gpu_hours": round(hours, 4)}
    return json.dumps({"summary": summary, "checks": checks}, indent=2)


def _then(rerun: ReplayedCheck) -> str:
    return rerun.then.action if rerun.then else ""


if __name__ == "__main__":
    sys.exit(main())
