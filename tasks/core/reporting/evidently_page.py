"""Evidently's report: lengths and words of the prompts, and single directions of their embeddings.

Its input is numeric, so it shows no client's text. Its PSI has its own bins and thresholds and no null distribution,
and decides nothing.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Columns = dict[str, npt.NDArray[np.float64]]
MOST = 2000  # rows of reference and window each
THRESHOLD = 0.2
SENTENCE = re.compile(r"[.!?\u3002]+(?:\s|$)")
WORD = re.compile(r"\w+")


def evidently_page(
    reference_prompts: Sequence[str],
    current_prompts: Sequence[str],
    reference_components: Floats,
    current_components: Floats,
    *,
    seed: int = 0,
) -> str:
    """The HTML, a few MB with its scripts inlined; float32 [m, k] and [n, k] are the components of the prompts.

    At most `MOST` rows of each are used, a seeded sample. Importing Evidently here takes seconds.
    """
    rng = np.random.default_rng(seed)
    reference, known = _sample(reference_prompts, reference_components, rng)
    current, asked = _sample(current_prompts, current_components, rng)
    uses = Counter(word for prompt in set(reference) for word in _words(prompt))
    return _render(_columns(reference, known, uses, 2), _columns(current, asked, uses, 1))


def _render(reference: Columns, current: Columns) -> str:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    import pandas as pd  # noqa: PLC0415  lazy: takes seconds
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415
    from evidently.presets import DataDriftPreset  # noqa: PLC0415

    names = list(reference)
    definition = DataDefinition(numerical_columns=names)
    before, now = (Dataset.from_pandas(pd.DataFrame(side), data_definition=definition) for side in (reference, current))
    drift = DataDriftPreset(columns=names, num_method="psi", num_threshold=THRESHOLD, drift_share=1 / len(names))
    with np.errstate(invalid="ignore", divide="ignore"):  # it correlates columns that may be constant
        return str(Report([drift]).run(now, before).get_html_str(as_iframe=False))


def _sample(prompts: Sequence[str], components: Floats, rng: np.random.Generator) -> tuple[list[str], Floats]:
    rows = np.sort(rng.permutation(len(prompts))[:MOST])
    return [prompts[i] for i in rows], components[rows]


def _columns(prompts: list[str], components: Floats, uses: Counter[str], least: int) -> Columns:
    """A column for each descriptor and direction.

    A word is new if fewer than `least` distinct prompts of the reference use it: two for the reference's own prompts,
    as one is the prompt itself, and one for the window's.
    """
    described: dict[str, Sequence[int] | Floats] = {
        "characters": [len(prompt) for prompt in prompts],
        "words": [len(WORD.findall(prompt)) for prompt in prompts],
        "sentences": [max(1, len(SENTENCE.findall(prompt))) for prompt in prompts],
        "words new to the reference": [sum(uses[word] < least for word in _words(prompt)) for prompt in prompts],
    }
    directions: dict[str, Sequence[int] | Floats] = {
        f"direction {k}": column for k, column in enumerate(components.T, 1)
    }
    return {name: np.asarray(values, np.float64) for name, values in (described | directions).items()}


def _words(prompt: str) -> set[str]:
    return set(WORD.findall(prompt.lower()))
