"""Measures of rendered pictures, each a value for every prompt and seed."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.core.data.perceptual_hash import distances, hashes
from tasks.core.evaluation.plan import Wanted
from tasks.core.evaluation.references import References
from tasks.core.evaluation.session import BASE, EvaluatedModel, RenderedPrompt, RenderSession
from tasks.core.gate.statistics import Measure, Scores, Values
from tasks.core.models.clip import Clip, Embeddings
from tasks.core.models.images import NAN, image_fault

Watch = Callable[[RenderedPrompt], None]


class Fault(NamedTuple):
    """A blank picture."""

    kind: str
    prompt: str
    picture: str  # the prompt and the seed, in words


@dataclass
class Findings:
    """The scores of a model, and faults and copies among its pictures."""

    scores: Scores
    pictures: int = 0
    compared: int = 0  # pictures that were compared with the training pictures
    faults: list[Fault] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)


class Measurer:
    """Renders with models and measures the pictures."""

    def __init__(self, studio: RenderSession, clip: Clip, originals: References, copy_bits: int) -> None:
        self.studio, self.clip, self.originals, self.copy_bits = studio, clip, originals, copy_bits

    def measure(
        self, model: EvaluatedModel, wanted: Wanted, seeds: Sequence[int], watch: Watch = lambda _: None
    ) -> Findings:
        """Take these measures; each prompt is rendered once with every seed, and passed to `watch`."""
        prompts = tuple(dict.fromkeys(p for some in wanted.values() for p in some))
        base = self._base(model, wanted.get("forgetting", ()), seeds)
        found = Findings({measure: {} for measure in wanted})
        for drawn in self.studio.draw(model, prompts, seeds):
            watch(drawn)
            embedded = self.clip.encode_pictures(drawn.pictures)
            for measure, asked in wanted.items():
                if drawn.prompt in asked:
                    found.scores[measure][drawn.prompt] = self._values(measure, drawn, embedded, base)
            self._look(found, drawn, seeds, drawn.prompt in wanted.get("near_copies", ()))
        return found

    def _base(self, model: EvaluatedModel, prompts: tuple[str, ...], seeds: Sequence[int]) -> Values:
        """The CLIPScores of the bare base, unless it is the bare base that is measured."""
        if model.sha256 == BASE or not prompts:
            return {}
        return self.measure(EvaluatedModel(), {"prompt_fidelity": prompts}, seeds).scores["prompt_fidelity"]

    def _values(self, measure: Measure, drawn: RenderedPrompt, embedded: Embeddings, base: Values) -> tuple[float, ...]:
        match measure:
            case "prompt_fidelity":
                return self._fidelity(drawn.prompt, embedded)
            case "style_fidelity":
                return _floats((embedded @ self.originals.style.T).mean(1))
            case "diversity":
                return (diversity(embedded),)
            case "forgetting":
                own = self._fidelity(drawn.prompt, embedded)
                return _floats(np.subtract(base.get(drawn.prompt, own), own))
            case "near_copies":
                return _floats(self.originals.nearness(embedded))
            case "render_seconds":
                return drawn.seconds

    def _fidelity(self, prompt: str, embedded: Embeddings) -> tuple[float, ...]:
        return _floats(self.clip.score_embedded([prompt] * len(embedded), embedded))

    def _look(self, found: Findings, drawn: RenderedPrompt, seeds: Sequence[int], compared: bool) -> None:
        """Record blank pictures and copies."""
        names = [f"{drawn.prompt!r} with seed {seed}" for seed in seeds]
        found.pictures += len(names)
        faults = zip(map(image_fault, drawn.pictures), names, strict=True)
        found.faults += [Fault(fault, drawn.prompt, name) for fault, name in faults if fault]
        if compared:
            bits = distances(hashes(drawn.pictures), self.originals.hashes)
            found.compared += len(names)
            found.copies += [name for name, off in zip(names, bits, strict=True) if off <= self.copy_bits]


def diversity(embedded: Embeddings) -> float:
    """Mean cosine distance between the pictures of one prompt; 0 for a single picture."""
    n = len(embedded)
    if n < 2:
        return 0.0
    cosines = embedded @ embedded.T
    return float(1 - (cosines.sum() - np.trace(cosines)) / (n * (n - 1)))


def _floats(values: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def refusals(found: Findings, drifted: tuple[str, ...], max_exact: float) -> tuple[str, ...]:
    """The reasons to refuse a model outright, in words."""
    return (*_faulty(found, drifted), *_copying(found, max_exact))


def _faulty(found: Findings, drifted: tuple[str, ...]) -> Iterator[str]:
    """Blank pictures; of visitors' prompts, which may ask for just that, only those that are not a number."""
    faults = [fault for fault in found.faults if fault.kind == NAN or fault.prompt not in drifted]
    for kind, count in Counter(fault.kind for fault in faults).items():
        first = next(fault.picture for fault in faults if fault.kind == kind)
        yield f"{count} of {found.pictures} pictures are {kind}, the first: {first}"


def _copying(found: Findings, max_exact: float) -> Iterator[str]:
    if found.compared and len(found.copies) / found.compared > max_exact:
        yield (
            f"{len(found.copies)} of {found.compared} pictures are copies of training pictures by their perceptual "
            f"hash, of which at most {max_exact:.0%} may be; the first: {found.copies[0]}"
        )
