"""The Hub's validation of a card's metadata, by its documentation of model cards."""

import re
from typing import Any

import yaml

FRONT = re.compile(r"^---\n(.*?)\n---\n", re.S)
LICENCES = frozenset(  # those of its list that go with pictures and models of them
    {
        *("apache-2.0", "mit", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "mpl-2.0", "unlicense", "unknown", "other"),
        *("openrail", "openrail++", "creativeml-openrail-m", "bigscience-openrail-m", "bigcode-openrail-m"),
        *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0"),
    }
)
RELATIONS = frozenset({"adapter", "finetune", "quantized", "merge"})
REPO_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def faults(card: str) -> list[str]:
    """Reasons why the Hub would reject a card; empty for a valid one."""
    front = FRONT.match(card)
    data = yaml.safe_load(front[1]) if front else None
    if not isinstance(data, dict):
        return ["the card has no metadata"]
    found = []
    if data.get("license", "other") not in LICENCES:
        found.append(f'"license" must be one of the Hub\'s, not {data["license"]!r}')
    if "base_model" in data and not REPO_ID.fullmatch(str(data["base_model"])):
        found.append('"base_model" must be the id of a model')
    if "base_model_relation" in data and data["base_model_relation"] not in RELATIONS:
        found.append('"base_model_relation" is not known')
    if not all(isinstance(data.get(key, ""), str) for key in ("instance_prompt", "library_name", "pipeline_tag")):
        found.append('"instance_prompt", "library_name" and "pipeline_tag" must be strings')
    if not all(isinstance(tag, str) for tag in data.get("tags", [])):
        found.append('"tags" must be strings')
    return found + _widget(data.get("widget", [])) + _index(data.get("model-index", []))


def _widget(widgets: list[Any]) -> list[str]:
    good = all(isinstance(w["text"], str) and isinstance(w["output"]["url"], str) for w in widgets)
    return [] if good else ['"widget" must hold texts and the addresses of their outputs']


def _index(models: list[Any]) -> list[str]:
    results = [result for model in models for result in model["results"]]
    good = all(isinstance(model["name"], str) for model in models)
    good &= all(isinstance(r["task"]["type"], str) and r["dataset"]["type"] and r["dataset"]["name"] for r in results)
    good &= all(isinstance(m["type"], str) and "value" in m for r in results for m in r["metrics"])
    return [] if good else ['"model-index" is malformed']
