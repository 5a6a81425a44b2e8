"""An evaluation from its plan to its result: challenger and champion on the same prompts and seeds."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tasks.core import clock
from tasks.core.clock import Stopwatch
from tasks.core.config.model import ModelConfig
from tasks.core.data.dataset import load_manifest
from tasks.core.errors import PlanMismatch, ResultMissing
from tasks.core.evaluation.grid import Thumbnails, grids, samples
from tasks.core.evaluation.measures import Findings, Measurer, refusals
from tasks.core.evaluation.plan import EvaluationPlan, Wanted
from tasks.core.evaluation.references import References, find_references
from tasks.core.evaluation.renders import RenderCache, way_of
from tasks.core.evaluation.session import ComparedModels, EvaluatedModel, RenderSession
from tasks.core.gate.checks import Check
from tasks.core.gate.decide import settle, unsure
from tasks.core.gate.evidence import Evidence, ExtraSeeds
from tasks.core.gate.statistics import Measure, Scores, Values
from tasks.core.installation import Installation
from tasks.core.models.clip import Clip
from tasks.core.models.identity import WEIGHTS, pinned
from tasks.core.models.images import png
from tasks.core.models.rendering import Renderer, Renders
from tasks.core.monitoring.records import DriftRecord
from tasks.core.registry.releases import fetch_release
from tasks.core.registry.results import (
    EvaluationResult,
    TrainResult,
    find_result,
    get_result,
    result_folder,
    save_result,
    summary,
)
from tasks.core.store import Store, download_folder
from tasks.core.store.documents import read_document
from tasks.core.tracking import runs


def take_extra_seeds(
    plan: EvaluationPlan, pair: ComparedModels, measurer: Measurer, scores: tuple[Scores, Scores], evidence: Evidence
) -> tuple[ExtraSeeds, ...]:
    """Further looks until no guard is unsure, or each has had `max_looks`."""
    looks: list[ExtraSeeds] = []
    for number in range(1, plan.gate.max_looks + 1):
        decision = settle(*scores, plan.gate, looks, evidence=evidence)
        for check in unsure(decision):
            ours, theirs = (_values(plan, model, measurer, check, number) for model in (pair.challenger, pair.champion))
            looks.append(ExtraSeeds(check=check.name, challenger=ours, champion=theirs))
    return tuple(looks)


def _values(plan: EvaluationPlan, model: EvaluatedModel, measurer: Measurer, check: Check, look: int) -> Values:
    if check.measure is None:
        return {}
    wanted: Wanted = {check.measure: prompts_of(plan, check.measure)}
    return measurer.measure(model, wanted, seeds_of(plan, look)).scores[check.measure]


def seeds_of(plan: EvaluationPlan, look: int) -> tuple[int, ...]:
    """The seeds of a further look, counted from 1: as many as the first look's, and none of those of any other."""
    first, count = max(plan.spec.seeds) + 1, len(plan.spec.seeds)
    return tuple(range(first + (look - 1) * count, first + look * count))


def prompts_of(plan: EvaluationPlan, measure: Measure) -> tuple[str, ...]:
    """The prompts that a guard looks at; prompt fidelity is guarded on the fixed ones alone."""
    return plan.fixed if measure == "prompt_fidelity" else plan.wanted[measure]


def save_evaluation(
    installation: Installation,
    model: ModelConfig,
    result: EvaluationResult,
    grids: dict[str, Image.Image],
    samples: Image.Image,
) -> EvaluationResult:
    """Write everything, the result itself last; it is returned with the keys of its pictures."""
    beside = f"{result_folder(model.name, EvaluationResult)}{result.key}"
    places = {kind: f"{beside}-{kind}.png" for kind in grids}
    shown = f"{beside}-samples.png"
    result = result.model_copy(update={"grids": places, "pictures": places["fixed"], "samples": shown})
    installation.store.write(shown, png(samples))
    for kind, grid in grids.items():
        installation.store.write(places[kind], png(grid))
    about = {"training": result.training, "prompts": result.spec.prompts.version}
    run = runs.open_run(f"{model.name}-evaluate", result.key, result.key, about)
    for kind, grid in grids.items():
        runs.log_picture(run, grid, f"grid-{kind}", 0)
    with tempfile.TemporaryDirectory() as place:
        table = Path(place) / "scores.json"
        table.write_text(result.model_dump_json(indent=2), encoding="utf-8")
        runs.log_file(run, table)
    runs.close_run(run, _metrics(result))
    save_result(installation.store, result)
    return result


def _metrics(result: EvaluationResult) -> dict[str, float]:
    """The means of each model and kind of prompts, as `challenger_drifted_style_fidelity`; fixed ones are not named."""
    kinds = {"": result.fixed, "drifted_": result.drifted, "general_": result.class_prompts + result.general}
    models = {"challenger": result.challenger, "champion": result.champion}
    return {
        f"{model}_{kind}{measure}": value
        for model, scores in models.items()
        for kind, prompts in kinds.items()
        for measure, value in summary(scores, prompts).items()
    }


MakeRenderer = Callable[[str, str], Renders]  # of a base, on a device
Watch = Callable[[int, int], None]  # pictures so far, and of how many


def evaluate(
    installation: Installation,
    model: ModelConfig,
    plan: EvaluationPlan,
    clip: Clip,
    make: MakeRenderer = Renderer,
    watch: Watch = lambda *_: None,
) -> EvaluationResult:
    """Render and measure both models, or find the result; `make` creates the renderer when it is needed.

    Raises:
        PlanMismatch: the scorer is not the one that the plan was made for.
        ResultMissing: the adapter was deleted.
    """
    if done := find_result(installation.store, model.name, EvaluationResult, plan.key):
        return done
    if clip.hash != plan.scorer:
        raise PlanMismatch("evaluate-challenger", plan.scorer, clip.hash, "the scorer")
    meter = Stopwatch()
    training = get_result(installation.store, model.name, TrainResult, plan.training)
    base, device = pinned(model.base, training.base), installation.settings.device
    manifest, side = (
        load_manifest(installation.store, training.dataset, training.dataset_version),
        training.spec.resolution,
    )
    originals = find_references(installation.store, manifest, side, plan.spec, clip)
    cache = RenderCache(installation.store, model.name, way_of(base, device, plan.spec, side))
    session = RenderSession(cache, lambda: make(base, device), lambda count: watch(count, max(count, plan.pictures)))
    measurer = Measurer(session, clip, originals, plan.spec.copy_bits)
    with tempfile.TemporaryDirectory() as place:
        pair = _fetch(installation, model, plan, training, Path(place))
        result, album = _compare(installation.store, plan, pair, measurer)
    taken = {"seconds": meter.seconds(), "render_seconds": round(session.seconds, 3)}
    result = result.model_copy(update={**taken, "finished": clock.now(), "scoring": clip.scoring})
    return save_evaluation(
        installation, model, result, grids(album, plan, _name(plan)), samples(album["challenger"], plan)
    )


def _compare(
    store: Store, plan: EvaluationPlan, pair: ComparedModels, measurer: Measurer
) -> tuple[EvaluationResult, dict[str, Thumbnails]]:
    """Measure both models, then take more seeds where the gate is unsure."""
    album = {"challenger": Thumbnails(), "champion": Thumbnails()}
    ours = measurer.measure(pair.challenger, plan.wanted, plan.spec.seeds, album["challenger"].add)
    theirs = measurer.measure(pair.champion, plan.wanted, plan.spec.seeds, album["champion"].add)
    evidence = _evidence(plan, pair, ours, measurer.originals)
    report = read_document(store, DriftRecord, plan.report) if plan.report else None
    result = EvaluationResult(
        key=plan.key,
        model=plan.model,
        finished=clock.now(),
        training=plan.training,
        champion_generation=plan.champion_generation,
        spec=plan.spec,
        fixed=plan.fixed,
        drifted=plan.drifted,
        challenger=ours.scores,
        champion=theirs.scores,
        traffic_from=report.start if report else None,
        pictures="",
        scorer=plan.scorer,
        evidence=evidence,
        looks=take_extra_seeds(plan, pair, measurer, (ours.scores, theirs.scores), evidence),
        class_prompts=plan.class_prompts,
        general=plan.general,
    )
    return result, album


def _evidence(plan: EvaluationPlan, pair: ComparedModels, found: Findings, originals: References) -> Evidence:
    return Evidence(
        drifted=plan.drifted,
        bare_base=not plan.champion_release,
        groups=plan.spec.prompts.grouped(plan.fixed),
        near_limit=originals.near_limit,
        size_bytes=pair.size_bytes,
        refusals=refusals(found, plan.drifted, plan.spec.max_exact),
        held=originals.held,
    )


def _name(plan: EvaluationPlan) -> str:
    generation = f"generation {plan.champion_generation}" if plan.champion_generation else ""
    return " ".join(filter(None, (generation, "" if plan.champion_release else "the bare base")))


def _fetch(
    installation: Installation, model: ModelConfig, plan: EvaluationPlan, training: TrainResult, place: Path
) -> ComparedModels:
    download_folder(installation.store, training.adapter, place / "challenger")
    if not (place / "challenger" / WEIGHTS).is_file():
        raise ResultMissing("train", plan.training)
    champion = EvaluatedModel()
    if plan.champion_release:
        fetch_release(installation.store, model.name, plan.champion_release, place / "champion")
        champion = EvaluatedModel.of(place / "champion")
    size = (place / "challenger" / WEIGHTS).stat().st_size
    return ComparedModels(EvaluatedModel.of(place / "challenger"), champion, size)
