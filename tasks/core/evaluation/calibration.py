"""A/A calibration: a model compared with itself on other seeds, which shows the noise of the measures."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import EvaluationSpec
from tasks.core.config.requests import CalibrateRequest
from tasks.core.data.dataset import load_manifest
from tasks.core.evaluation.measures import Measurer
from tasks.core.evaluation.plan import ask, wanted
from tasks.core.evaluation.references import find_references
from tasks.core.evaluation.renders import RenderCache, way_of
from tasks.core.evaluation.session import EvaluatedModel, RenderSession
from tasks.core.gate.statistics import Scores
from tasks.core.installation import Installation
from tasks.core.models.clip import Clip
from tasks.core.models.rendering import Renderer, Renders
from tasks.core.registry.ledger import champion
from tasks.core.registry.releases import fetch_release


def calibration_scores(
    installation: Installation,
    model: ModelConfig,
    request: CalibrateRequest,
    clip: Clip,
    make: Callable[[str, str], Renders] = Renderer,
) -> tuple[Scores, Scores]:
    """The scores of one model twice, with the seeds of an evaluation and with as many others."""
    spec, side = request.evaluation or model.preset.evaluation, model.preset.train.resolution
    current = champion(installation.store, model.name)
    release = request.release or (current.release if current else "")
    with tempfile.TemporaryDirectory() as place:
        measured, dataset, version = EvaluatedModel(), model.dataset, ""
        if release:
            about = fetch_release(installation.store, model.name, release, Path(place))
            measured = EvaluatedModel.of(Path(place))
            dataset, version = about.dataset or dataset, about.dataset_version  # those of an adopted one may be unknown
        originals = find_references(
            installation.store, load_manifest(installation.store, dataset, version), side, spec, clip
        )
        cache = RenderCache(
            installation.store, model.name, way_of(model.base, installation.settings.device, spec, side)
        )
        measurer = Measurer(
            RenderSession(cache, lambda: make(model.base, installation.settings.device)),
            clip,
            originals,
            spec.copy_bits,
        )
        asked = ask(model, spec)
        everything = wanted(asked["trigger"], (), asked["class_noun"] + asked["general"])
        first, second = (measurer.measure(measured, everything, s).scores for s in (spec.seeds, other_seeds(spec)))
    return first, second


def other_seeds(spec: EvaluationSpec) -> tuple[int, ...]:
    """As many seeds as an evaluation's, and none of them."""
    return tuple(range(max(spec.seeds) + 1, max(spec.seeds) + 1 + len(spec.seeds)))
