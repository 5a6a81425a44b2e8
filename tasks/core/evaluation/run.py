"""An evaluation from its plan to its result: challenger and champion on the same prompts and seeds."""

import tempfile
from pathlib import Path

from PIL import Image

from tasks.core import clock, tracking
from tasks.core.clip import Clip
from tasks.core.data.dataset import load_manifest, split
from tasks.core.documents import read_document
from tasks.core.evaluation.grid import comparison, png
from tasks.core.evaluation.measures import Pictures, measure, render_all
from tasks.core.evaluation.plan import EvaluationPlan
from tasks.core.gate import Evidence
from tasks.core.meter import Meter
from tasks.core.records import DriftRecord
from tasks.core.registry.releases import fetch_release
from tasks.core.rendering import Renderer
from tasks.core.results import EvaluationResult, TrainResult, find_result, get_result, save_result, summary
from tasks.core.scores import Scores
from tasks.core.settings import Settings
from tasks.core.store import Store, download_folder
from tasks.core.training.material import load_pictures


def evaluate(store: Store, settings: Settings, plan: EvaluationPlan, clip: Clip) -> EvaluationResult:
    """Render and measure both models, or find the result."""
    if done := find_result(store, EvaluationResult, plan.key):
        return done
    meter = Meter()
    training = get_result(store, TrainResult, plan.training)
    manifest = load_manifest(store, training.dataset, training.dataset_version)
    side = training.spec.resolution
    _, held = split(manifest)
    style = clip.encode_pictures(load_pictures(store, training.dataset, held[: plan.spec.references], side))
    prompts = plan.fixed + plan.drifted
    renderer = Renderer(settings)
    _load_both(store, settings, plan, training, renderer)
    drawn: dict[str, tuple[Pictures, Scores]] = {}
    for name in ("challenger", "champion"):
        renderer.activate(name if name == "challenger" or plan.champion_release else "")
        pictures, seconds = render_all(renderer, prompts, plan.spec, side)
        drawn[name] = pictures, measure(clip, pictures, seconds, style)
    report = read_document(store, DriftRecord, plan.report) if plan.report else None
    result = EvaluationResult(
        key=plan.key,
        finished=clock.now(),
        training=plan.training,
        champion_generation=plan.champion_generation,
        spec=plan.spec,
        fixed=plan.fixed,
        drifted=plan.drifted,
        challenger=drawn["challenger"][1],
        champion=drawn["champion"][1],
        traffic_from=report.start if report else None,
        pictures=f"results/evaluate/{plan.key}-grid.png",
        scorer=plan.scorer,
        seconds=meter.seconds(),
        evidence=Evidence(drifted=plan.drifted, bare_base=not plan.champion_release),
    )
    titles = (f"champion: {_name(plan)}", "challenger")
    _keep(store, settings, result, comparison(drawn["champion"][0], drawn["challenger"][0], titles))
    return result


def _name(plan: EvaluationPlan) -> str:
    return f"generation {plan.champion_generation}" if plan.champion_generation else "the bare base"


def _load_both(
    store: Store, settings: Settings, plan: EvaluationPlan, training: TrainResult, renderer: Renderer
) -> None:
    with tempfile.TemporaryDirectory() as place:
        download_folder(store, training.adapter, Path(place) / "challenger")
        renderer.load(Path(place) / "challenger", "challenger")
        if plan.champion_release:
            fetch_release(store, settings.model, plan.champion_release, Path(place) / "champion")
            renderer.load(Path(place) / "champion", "champion")


def _keep(store: Store, settings: Settings, result: EvaluationResult, grid: Image.Image) -> None:
    store.write(result.pictures, png(grid))
    run = tracking.open_run(f"{settings.model}-evaluate", result.key, result.key, {"training": result.training})
    tracking.log_picture(run, grid, "grid", 0)
    metrics = {f"challenger_{k}": v for k, v in summary(result.challenger, result.fixed).items()}
    metrics |= {f"champion_{k}": v for k, v in summary(result.champion, result.fixed).items()}
    if result.drifted:
        metrics |= {f"challenger_drifted_{k}": v for k, v in summary(result.challenger, result.drifted).items()}
        metrics |= {f"champion_drifted_{k}": v for k, v in summary(result.champion, result.drifted).items()}
    with tempfile.TemporaryDirectory() as place:
        table = Path(place) / "scores.json"
        table.write_text(result.model_dump_json(indent=2))
        tracking.log_file(run, table)
    tracking.close_run(run, metrics)
    save_result(store, result)
