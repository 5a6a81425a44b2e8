"""Keeping what an evaluation found: grids and result in the store, figures in MLflow."""

import tempfile
from pathlib import Path

from PIL import Image

from tasks.core import tracking
from tasks.core.evaluation.files import png
from tasks.core.results import EvaluationResult, save_result, summary
from tasks.core.settings import Settings
from tasks.core.store import Store


def keep(
    store: Store, settings: Settings, result: EvaluationResult, grids: dict[str, Image.Image], samples: Image.Image
) -> EvaluationResult:
    """Write everything, the result itself last; it is returned with the places of its pictures."""
    places = {kind: f"results/evaluate/{result.key}-{kind}.png" for kind in grids}
    shown = f"results/evaluate/{result.key}-samples.png"
    result = result.model_copy(update={"grids": places, "pictures": places["fixed"], "samples": shown})
    store.write(shown, png(samples))
    for kind, grid in grids.items():
        store.write(places[kind], png(grid))
    about = {"training": result.training, "prompts": result.spec.prompts.version}
    run = tracking.open_run(f"{settings.model}-evaluate", result.key, result.key, about)
    for kind, grid in grids.items():
        tracking.log_picture(run, grid, f"grid-{kind}", 0)
    with tempfile.TemporaryDirectory() as place:
        table = Path(place) / "scores.json"
        table.write_text(result.model_dump_json(indent=2), encoding="utf-8")
        tracking.log_file(run, table)
    tracking.close_run(run, _metrics(result))
    save_result(store, result)
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
