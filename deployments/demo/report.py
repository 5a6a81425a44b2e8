"""The demo's end: summary.json, and report.html that needs nothing beside itself."""

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from tasks.core.retraining.decisions import read_decisions

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from deployments.demo.plan import Diary
from tasks.core.config.model import ModelConfig
from tasks.core.gate.checks import interval
from tasks.core.gate.decide import passes_founding_gate
from tasks.core.monitoring.records import DriftRecord, read_records
from tasks.core.registry.ledger import Entry, history
from tasks.core.registry.results import EvaluationResult, TrainResult, get_result, summary
from tasks.core.store import Store

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a2350}
h1{margin-bottom:0}h2{margin-top:2.5rem;border-bottom:2px solid #2c3e8a}img{max-width:100%}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #dde}
.retrain,.promote{color:#0a7a3c}.declined,.keep{color:#a33}.big{font-size:1.2rem}"""


class Story:
    """All that the demo has left in the store, read once."""

    def __init__(self, store: Store, model: ModelConfig, diary: Diary) -> None:
        self.store, self.model, self.diary = store, model, diary
        self.entries: list[Entry] = history(store, model.name)
        self.decisions = read_decisions(store, model.name)
        self.records: list[DriftRecord] = read_records(store, model.name)
        self.evaluations = [get_result(store, model.name, EvaluationResult, e.evaluation) for e in self.entries]
        newest = get_result(store, model.name, EvaluationResult)
        if newest.key not in {e.key for e in self.evaluations}:  # the gate kept the champion
            self.evaluations.append(newest)

    def figures(self) -> dict[str, object]:
        """The content of summary.json; every figure comes from this run."""
        first, last = self.evaluations[0], self.evaluations[-1]
        spec = self.model.preset.gate
        training = get_result(self.store, self.model.name, TrainResult, last.training)
        causes = [d.cause for d in self.decisions if d.action == "retrain"]
        figures: dict[str, object] = {
            "psi_before": self.diary.psi.get("before"),
            "psi_after_shift": self.diary.psi.get("after_shift"),
            "psi_after_retrain": self.diary.psi.get("after_retrain"),
            "threshold": self.model.preset.monitor.drift.retrain_psi,
            "retrain_triggered_by": causes[-1] if len(causes) > 1 else None,
            "retrains": causes,
            "generations": len(self.entries),
            "quality_of_bare_base": _mean(first, "champion"),
            "quality_of_first_model": _mean(first, "challenger"),
            "gate_of_bare_base_passed": passes_founding_gate(first.champion, first.fixed, spec),
            "floor": spec.floor,
            "steps_per_second": training.steps_per_second,
            "resumed_from_step": training.resumed_from,
            "seconds_total": round(self.diary.elapsed, 1),
            "seconds": self.diary.seconds,
        }
        if last.drifted:
            sets = (last.drifted,)
            _, low, high = interval(last.challenger["prompt_fidelity"], last.champion["prompt_fidelity"], sets, spec)
            figures["quality_on_shifted_prompts_before"] = _mean(last, "champion", drifted=True)
            figures["quality_on_shifted_prompts_after"] = _mean(last, "challenger", drifted=True)
            figures["quality_gain_interval"] = [round(low, 4), round(high, 4)]
        return figures

    def page(self, figures: dict[str, object]) -> str:
        """The report."""
        parts = [f"<h1>dyeworks: what happened</h1><p class=big>{html.escape(_lead(figures))}</p>"]
        if any(r.drift for r in self.records):
            parts += ["<h2>Drift of the prompts</h2>", _image(self._drift_plot(), "PSI of each check")]
        for number, evaluation in reversed(list(enumerate(self.evaluations, 1))):
            title = "before and after the retrain" if number > 1 else "the bare base and the first model"
            parts.append(f"<h2>Pictures: {title}</h2>")
            for kind, place in evaluation.grids.items():
                parts += [f"<h3>{kind} prompts</h3>", _image(self.store.read(place), f"{title}, {kind} prompts")]
        parts += ["<h2>Decisions</h2>", self._decisions(), "<h2>Timeline</h2>", self._timeline()]
        parts += ["<h2>Figures</h2>", _table([(k, json.dumps(v)) for k, v in figures.items()])]
        head = f"<meta charset=utf-8><title>dyeworks demo</title><style>{STYLE}</style>"
        return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"

    def _drift_plot(self) -> bytes:
        checked = [r for r in self.records if r.drift]
        figure, axes = plt.subplots(figsize=(9, 3.4))
        for generation in sorted({r.generation for r in checked}):
            mine = [(i, r.drift.psi) for i, r in enumerate(checked, 1) if r.generation == generation and r.drift]
            axes.plot(*zip(*mine, strict=True), "o-", label=f"reference of generation {generation}")
        axes.axhline(self.model.preset.monitor.drift.retrain_psi, color="#a33", linestyle="--", label="threshold")
        axes.set(xlabel="check", ylabel="PSI", ylim=(min(-0.05, axes.get_ylim()[0]), None))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=110, bbox_inches="tight")
        plt.close(figure)
        return buffer.getvalue()

    def _decisions(self) -> str:
        rows = [(f"{d.time:%d %b %H:%M}", d.cause, d.outcome or d.action, d.reason) for d in self.decisions]
        return _table(rows, ("demo time", "cause", "decision", "reason"))

    def _timeline(self) -> str:
        return _table([(f"{t / 60:.1f} min", text) for t, text in self.diary.timeline], ("elapsed", "what"))


def write_report(store: Store, model: ModelConfig, diary: Diary, folder: Path) -> dict[str, object]:
    """Write both files and return the figures."""
    story = Story(store, model, diary)
    figures = story.figures()
    (folder / "summary.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(story.page(figures), encoding="utf-8")
    return figures


def _mean(evaluation: EvaluationResult, model: str, drifted: bool = False) -> float:
    scores = evaluation.challenger if model == "challenger" else evaluation.champion
    return round(summary(scores, evaluation.drifted if drifted else evaluation.fixed)["prompt_fidelity"], 4)


def _lead(figures: dict[str, object]) -> str:
    if figures["generations"] == 0:
        return "A LoRA was trained and measured, and the gate kept the bare base: its reasons are under Decisions."
    if "quality_on_shifted_prompts_after" not in figures:
        return "A first model was trained, passed its gate and is served."
    if figures["psi_after_retrain"] is None:
        return "The prompts drifted and the model retrained itself, but the gate kept the champion: see Decisions."
    before, after = figures["quality_on_shifted_prompts_before"], figures["quality_on_shifted_prompts_after"]
    return (
        f"Visitors began to ask for other motifs: PSI rose from {figures['psi_before']} "
        f"to {figures['psi_after_shift']} (threshold {figures['threshold']}). The model retrained itself; "
        f"its CLIPScore on the new prompts went from {before} to {after}, and PSI against its own "
        f"reference is {figures['psi_after_retrain']}."
    )


def _image(data: bytes, text: str) -> str:
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def _table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...] = ()) -> str:
    lines = ["<tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in head) + "</tr>"] if head else []
    for row in rows:
        cells = "".join(f"<td{f' class={c}' if c.isalpha() else ''}>{html.escape(c)}</td>" for c in row)
        lines.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"
