"""An evaluation from its plan to its result: challenger and champion on the same prompts and seeds."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from tasks.core import clock
from tasks.core.clip import Clip
from tasks.core.data.dataset import load_manifest
from tasks.core.documents import read_document
from tasks.core.errors import ResultMissing, SettingError
from tasks.core.evaluation.grid import Album, grids, samples
from tasks.core.evaluation.keep import keep
from tasks.core.evaluation.looks import further_looks
from tasks.core.evaluation.measures import Findings, Measurer
from tasks.core.evaluation.originals import Originals, find_originals
from tasks.core.evaluation.plan import EvaluationPlan
from tasks.core.evaluation.refusals import refusals
from tasks.core.evaluation.renders import RenderCache, way_of
from tasks.core.evaluation.studio import Model, Pair, Studio
from tasks.core.gate import Evidence
from tasks.core.meter import Meter
from tasks.core.models import pinned
from tasks.core.records import DriftRecord
from tasks.core.registry.releases import WEIGHTS, fetch_release
from tasks.core.rendering import Renderer, Renders
from tasks.core.results import EvaluationResult, TrainResult, find_result, get_result
from tasks.core.settings import Settings
from tasks.core.store import Store, download_folder

Make = Callable[[Settings], Renders]


def evaluate(
    store: Store, settings: Settings, plan: EvaluationPlan, clip: Clip, make: Make = Renderer
) -> EvaluationResult:
    """Render and measure both models, or find the result; `make` makes what renders, once it is needed.

    Raises:
        SettingError: the scorer is not the one that the plan was made for.
        ResultMissing: the adapter was deleted.
    """
    if done := find_result(store, EvaluationResult, plan.key):
        return done
    if clip.hash != plan.scorer:
        raise SettingError("DYEWORKS_CLIP", f"this machine scores with {clip.hash}, the plan is for {plan.scorer}")
    meter = Meter()
    training = get_result(store, TrainResult, plan.training)
    settings = pinned(settings, training.base)
    manifest, side = load_manifest(store, training.dataset, training.dataset_version), training.spec.resolution
    originals = find_originals(store, manifest, side, plan.spec, clip)
    cache = RenderCache(store, way_of(settings, plan.spec, side))
    measurer = Measurer(Studio(cache, lambda: make(settings)), clip, originals, plan.spec.copy_bits)
    with tempfile.TemporaryDirectory() as place:
        pair = _fetch(store, settings, plan, training, Path(place))
        result, album = _compare(store, plan, pair, measurer)
    result = result.model_copy(update={"seconds": meter.seconds(), "finished": clock.now(), "scoring": clip.scoring})
    return keep(store, settings, result, grids(album, plan, _name(plan)), samples(album["challenger"], plan))


def _compare(
    store: Store, plan: EvaluationPlan, pair: Pair, measurer: Measurer
) -> tuple[EvaluationResult, dict[str, Album]]:
    """Measure both models, then look again where the gate is unsure."""
    album = {"challenger": Album(), "champion": Album()}
    ours = measurer.measure(pair.challenger, plan.wanted, plan.spec.seeds, album["challenger"].add)
    theirs = measurer.measure(pair.champion, plan.wanted, plan.spec.seeds, album["champion"].add)
    evidence = _evidence(plan, pair, ours, measurer.originals)
    report = read_document(store, DriftRecord, plan.report) if plan.report else None
    result = EvaluationResult(
        key=plan.key,
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
        looks=further_looks(plan, pair, measurer, (ours.scores, theirs.scores), evidence),
        class_prompts=plan.class_prompts,
        general=plan.general,
    )
    return result, album


def _evidence(plan: EvaluationPlan, pair: Pair, found: Findings, originals: Originals) -> Evidence:
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


def _fetch(store: Store, settings: Settings, plan: EvaluationPlan, training: TrainResult, place: Path) -> Pair:
    download_folder(store, training.adapter, place / "challenger")
    if not (place / "challenger" / WEIGHTS).is_file():
        raise ResultMissing("train", plan.training)
    champion = Model()
    if plan.champion_release:
        fetch_release(store, settings.model, plan.champion_release, place / "champion")
        champion = Model.of(place / "champion")
    size = (place / "challenger" / WEIGHTS).stat().st_size
    return Pair(Model.of(place / "challenger"), champion, size)
