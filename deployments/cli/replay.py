"""`dyeworks replay`: replay past drift checks with another policy or other thresholds."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer
from pydantic import ValidationError

from deployments.cli.options import AsJson, Model
from tasks.core import clock
from tasks.core.config.base import explain
from tasks.core.config.drift import DriftSpec
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import PolicySpec, Preset, load_preset
from tasks.core.errors import NothingToReplay, SettingError
from tasks.core.installation import Installation, open_installation
from tasks.core.monitoring.records import read_records
from tasks.core.registry import ledger
from tasks.core.retraining.decisions import read_decisions
from tasks.core.retraining.replay import ReplayedCheck, fired
from tasks.core.retraining.replay import replay as replay_checks

THRESHOLDS = {"warn_psi", "retrain_psi", "warn_p", "retrain_p", "min_effective"}
MOST_DAYS = 100_000  # before the first of all checks, and still a date
ROW = "{:<17}{:<18}{:>7}  {:<10}{:<10}{}"


def replay(
    policy_file: Annotated[str, typer.Option("--policy", metavar="FILE", help="Preset with another policy.")] = "",
    days: Annotated[
        float | None, typer.Option("--days", min=0, max=MOST_DAYS, help="Only checks of the last N days.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Include checks without a decision.")] = False,
    as_json: AsJson = False,
    model: Model = "",
) -> None:
    """Replay past drift checks with another policy.

    Shows which retrains another policy, or other thresholds, would have started. FILE is a preset of which `policy` and
    the thresholds under `monitor.drift` are read; other fields are those of the model's preset.
    """
    installation = open_installation()
    checks = replayed(installation, installation.model(model), policy_file, days)
    print(to_json(checks) if as_json else as_table(checks, everything))


def replayed(installation: Installation, model: ModelConfig, name: str, days: float | None) -> list[ReplayedCheck]:
    """Replay the checks of a model; raises NothingToReplay, SettingError."""
    spec, drift = asked(model.preset, name)
    records = read_records(installation.store, model.name)
    if days is not None:
        begin = clock.now() - timedelta(days=days)
        records = [record for record in records if record.time >= begin]
    if not records:
        raise NothingToReplay(model.name, installation.settings.store, days)
    history = read_decisions(installation.store, model.name)
    return replay_checks(records, ledger.history(installation.store, model.name), history, spec, drift)


def asked(now: Preset, name: str) -> tuple[PolicySpec, DriftSpec | None]:
    """The preset in force with the overrides of the named one; no DriftSpec if that has no drift fields."""
    if not name:
        return now.policy, None
    given = load_preset(name)
    drift = given.monitor.drift.model_dump(exclude_unset=True)
    fixed = {k for k, v in drift.items() if v != getattr(now.monitor.drift, k)} - THRESHOLDS
    if fixed:
        names = ", ".join(f"monitor.drift.{key}" for key in sorted(fixed))
        raise SettingError(name, f"{names} cannot be replayed; the thresholds can: {', '.join(sorted(THRESHOLDS))}")
    spec = now.policy.model_dump() | given.policy.model_dump(exclude_unset=True)
    try:
        judged = DriftSpec.model_validate(now.monitor.drift.model_dump() | drift) if drift else None
    except ValidationError as error:
        raise SettingError(name, f"with the preset in force: {explain(error, DriftSpec)}") from error
    try:
        return PolicySpec.model_validate(spec), judged
    except ValidationError as error:
        raise SettingError(name, f"with the preset in force: {explain(error, PolicySpec)}") from error


def as_table(reruns: Sequence[ReplayedCheck], everything: bool) -> str:
    """A line for each check with a decision, and a summary."""
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


def to_json(reruns: Sequence[ReplayedCheck]) -> str:
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
