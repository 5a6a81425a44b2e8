"""The demo's results: summary.json, and a self-contained report.html."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageOps

from deployments.demo.plan import DemoProgress
from tasks.core.config.model import ModelConfig
from tasks.core.data.dataset import decoded, load_manifest
from tasks.core.errors import ResultMissing
from tasks.core.evaluation.grid import CELL, spread
from tasks.core.gate.checks import interval
from tasks.core.gate.decide import passes_founding_gate
from tasks.core.models.images import png
from tasks.core.monitoring.records import DriftRecord, read_records
from tasks.core.registry.ledger import Entry, history
from tasks.core.registry.results import EvaluationResult, PromotionResult, TrainResult, get_result, summary
from tasks.core.reporting import gate_words
from tasks.core.reporting.gate_text import deciding
from tasks.core.reporting.plots import history_plot, plot
from tasks.core.reporting.rendering import image, render_template
from tasks.core.retraining.decisions import read_decisions
from tasks.core.store import Store

OWN = 12  # of a person's pictures that are shown


class Results:
    """The results of the demo in the store, read once."""

    def __init__(self, store: Store, model: ModelConfig, progress: DemoProgress) -> None:
        self.store, self.model, self.progress = store, model, progress
        self.entries: list[Entry] = history(store, model.name)
        self.decisions = read_decisions(store, model.name)
        self.records: list[DriftRecord] = read_records(store, model.name)
        self.evaluations = [get_result(store, model.name, EvaluationResult, e.evaluation) for e in self.entries]
        newest = get_result(store, model.name, EvaluationResult)
        if newest.key not in {e.key for e in self.evaluations}:  # the gate kept the champion
            self.evaluations.append(newest)

    def figures(self) -> dict[str, object]:
        """The content of summary.json; every figure is measured in this run."""
        first, last = self.evaluations[0], self.evaluations[-1]
        spec = self.model.preset.gate
        training = get_result(self.store, self.model.name, TrainResult, last.training)
        causes = [d.cause for d in self.decisions if d.action == "retrain"]
        figures: dict[str, object] = {
            "psi_before": self.progress.psi.get("before"),
            "psi_after_shift": self.progress.psi.get("after_shift"),
            "psi_after_retrain": self.progress.psi.get("after_retrain"),
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
            "seconds_total": round(self.progress.elapsed, 1),
            "seconds": self.progress.seconds,
            "time_spent": self.progress.spent,
            "seconds_until": self.progress.delays,
        }
        if self.progress.data:
            figures["style_before"] = _mean(last, "champion", "style_fidelity")
            figures["style_after"] = _mean(last, "challenger", "style_fidelity")
        if last.drifted:
            sets = (last.drifted,)
            _, low, high = interval(last.challenger["prompt_fidelity"], last.champion["prompt_fidelity"], sets, spec)
            figures["quality_on_shifted_prompts_before"] = _mean(last, "champion", drifted=True)
            figures["quality_on_shifted_prompts_after"] = _mean(last, "challenger", drifted=True)
            figures["quality_gain_interval"] = [round(low, 4), round(high, 4)]
        return figures

    def page(self, figures: dict[str, object]) -> str:
        """The report: one self-contained HTML file."""
        checks = [record for record in self.records if record.drift]
        spec = self.model.preset.monitor.drift
        return render_template(
            "demo.html",
            lead=_lead(figures),
            own=self._own_pictures() if self.progress.data else [],
            refusal=self._refusal(),
            plot=plot("PSI of each check", lambda theme: history_plot(checks, spec, theme)) if checks else None,
            comparisons=list(self._comparisons()),
            decisions=self.decisions,
            timeline=self.progress.timeline,
            spent=sorted(self.progress.spent.items(), key=lambda part: -part[1]),
            figures={name: json.dumps(value) for name, value in figures.items()},
        )

    def _own_pictures(self) -> list[str]:
        """Some of the pictures that were trained on."""
        manifest = load_manifest(self.store, self.model.dataset)
        chosen = spread(tuple(sorted(item.sha256 for item in manifest.items)), OWN)
        items = [item for item in manifest.items if item.sha256 in chosen]
        return [image(png(_thumbnail(picture))) for _, picture in decoded(self.store, manifest.dataset, items)]

    def _refusal(self) -> dict[str, list[str]]:
        """Why the gate kept the champion: the checks that were not passed, and advice; empty if it promoted."""
        with suppress(ResultMissing):
            decision = get_result(self.store, self.model.name, PromotionResult).decision
            if decision.verdict != "promote":
                failed = deciding(decision)
                return {
                    "failed": [gate_words.clause(check) for check in failed],
                    "passed": [gate_words.clause(check) for check in decision.checks if check.passed],
                    "advice": gate_words.advice(failed),
                }
        return {}

    def _comparisons(self) -> Iterator[tuple[str, dict[str, str]]]:
        """For each evaluation, newest first: its title, and its pictures by kind of prompt."""
        for number, evaluation in reversed(list(enumerate(self.evaluations, 1))):
            title = "before and after the retrain" if number > 1 else "the base model and the first LoRA"
            yield title, {kind: image(self.store.read(key)) for kind, key in evaluation.grids.items()}


def write_report(store: Store, model: ModelConfig, progress: DemoProgress, folder: Path) -> dict[str, object]:
    """Write both files and return the figures."""
    results = Results(store, model, progress)
    figures = results.figures()
    (folder / "summary.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(results.page(figures), encoding="utf-8")
    return figures


def _mean(evaluation: EvaluationResult, model: str, measure: str = "prompt_fidelity", drifted: bool = False) -> float:
    scores = evaluation.challenger if model == "challenger" else evaluation.champion
    return round(summary(scores, evaluation.drifted if drifted else evaluation.fixed)[measure], 4)


def _thumbnail(picture: Image.Image) -> Image.Image:
    return ImageOps.fit(picture, (CELL, CELL), Image.Resampling.LANCZOS)


def _lead(figures: dict[str, object]) -> str:
    if "style_before" in figures:
        served = "its gate promoted it" if figures["generations"] else "its gate kept the base model: see why below"
        return (
            f"A LoRA was trained on your pictures. How like them the model's pictures are (the mean cosine of their "
            f"embeddings; 1 is the same) went from {figures['style_before']} with the base model to "
            f"{figures['style_after']}; {served}."
        )
    if figures["generations"] == 0:
        return "A LoRA was trained and measured, and the gate kept the bare base: see why below."
    if "quality_on_shifted_prompts_after" not in figures:
        return "A first model was trained, passed its gate and is served."
    if figures["psi_after_retrain"] is None:
        return "The prompts drifted and the model retrained itself, but the gate kept the champion: see why below."
    before, after = figures["quality_on_shifted_prompts_before"], figures["quality_on_shifted_prompts_after"]
    return (
        f"Visitors began to ask for other motifs: PSI rose from {figures['psi_before']} "
        f"to {figures['psi_after_shift']} (threshold {figures['threshold']}). The model retrained itself; "
        f"its CLIPScore on the new prompts went from {before} to {after}, and PSI against its own "
        f"reference is {figures['psi_after_retrain']}."
    )
