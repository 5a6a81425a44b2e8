"""The explanation of a drift: joint clusters of reference and window that grew, with their prompts and words."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tasks.core.config.stored import Stored
from tasks.core.drift.detector import Scan, scan
from tasks.core.drift.errors import BadEmbeddings
from tasks.core.drift.features import kmeans, nearest
from tasks.core.drift.profile import DriftProfile
from tasks.core.drift.rows import Floats, Ints, Rows, matrix, unit_rows

MOST_TOPICS = 8
ROWS_A_TOPIC = 10  # the fewest for a significant topic
GROWTH = 1.5  # times its share of the reference
SURE = 4.0  # standard errors
ALIKE = 0.5  # overlap of words from which two topics are merged
MEDOIDS, TERMS = 3, 6


class Topic(Stored):
    """A joint cluster of reference and window that holds more of the window than of the reference."""

    share_reference: float = Field(ge=0, le=1, description="share of the reference's rows in it")
    share_current: float = Field(ge=0, le=1, description="share of the window's rows in it")
    rows: int = Field(ge=1, description="rows of the window in it")
    medoids: tuple[str, ...] = Field(description="the window's prompts nearest to its centre, nearest first")
    terms: tuple[str, ...] = Field(description="its most characteristic words, by c-TF-IDF, strongest first")
    coverage: float | None = Field(None, ge=-1, le=1, description="cosine of the nearest caption of the dataset")


@dataclass(frozen=True)
class Explanation:
    """The topics that grew, the largest growth first, and for each the indices (int64) of the window's rows in it.

    `centres` float32 [topics, d] are of length one.
    """

    topics: tuple[Topic, ...]
    members: tuple[Ints, ...]
    centres: Floats

    @property
    def flagged(self) -> Ints:
        """The indices of all rows in a topic that grew, int64, ascending."""
        return np.sort(np.concatenate([*self.members, np.zeros(0, dtype=np.int64)]))


def explain(
    profile: DriftProfile, current: Rows, texts: Sequence[str], *, groups: npt.ArrayLike | None = None, seed: int = 0
) -> Explanation:
    """Find the topics that are new in a window, float32 [n, d], of prompts `texts`.

    Rows in the last bin of the check (nine of ten new ones, and one of ten old ones) are clustered; each of these
    clusters, beside those of the profile, then takes the rows nearest to it of the reference and of the window. It is
    a topic if its share has grown by half and by four standard errors. Clusters with the same words are merged.
    Raises `BadEmbeddings`.
    """
    rows = matrix("current", current, profile.card.dimension)
    if len(texts) != len(rows):
        raise BadEmbeddings("texts", f"expected {len(rows)}, got {len(texts)}")
    found = scan(profile, rows, groups=groups, seed=seed)
    window = unit_rows("current", rows, found.kept)
    prompts = [texts[i] for i in found.kept]
    belongs = _clusters(profile, window, found, seed)
    grown = {int(i) for mine, _ in belongs for i in mine}
    rest = profile.texts or [text for i, text in enumerate(prompts) if i not in grown]
    topics = [_topic(profile, window, prompts, rest, mine, known) for mine, known in _merged(belongs, prompts, rest)]
    topics.sort(key=lambda made: made[0].share_reference - made[0].share_current)
    return Explanation(
        tuple(topic for topic, _, _ in topics),
        tuple(found.kept[mine] for _, mine, _ in topics),
        np.array([centre for _, _, centre in topics], dtype=np.float32).reshape(len(topics), window.shape[1]),
    )


def _clusters(profile: DriftProfile, window: Floats, found: Scan, seed: int) -> list[tuple[Ints, int]]:
    """Each cluster that grew: the window's rows in it, and the number of the reference's."""
    far = window[found.bin == profile.card.spec.bins - 1]
    count = min(len(far) // ROWS_A_TOPIC, MOST_TOPICS)
    if not count:
        return []
    centres = kmeans(far, count, np.random.default_rng(seed))
    grown = [k for k, (rows, old) in enumerate(_shared(profile, window, centres)) if _grew(profile, rows, window, old)]
    return [(rows, old) for rows, old in _shared(profile, window, centres[grown]) if _grew(profile, rows, window, old)]


def _shared(profile: DriftProfile, window: Floats, centres: Floats) -> list[tuple[Ints, int]]:
    """For each centre the window's rows that are nearest to it, and the number of the reference's."""
    joint = np.concatenate([centres, profile.features.centroids])
    mine, known = nearest(window, joint)[0], nearest(profile.reference, joint)[0]
    return [(np.flatnonzero(mine == k), int((known == k).sum())) for k in range(len(centres))]


def _grew(profile: DriftProfile, mine: Ints, window: Floats, old: int) -> bool:
    """Whether the window's share is significantly larger than the reference's: the two-proportion test."""
    rows, n, m = len(mine), len(window), len(profile.reference)
    pooled = (rows + old) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * profile.card.phi * (1 / n + 1 / m))
    return rows >= ROWS_A_TOPIC and rows / n > GROWTH * old / m and rows / n - old / m > SURE * error


def _merged(made: list[tuple[Ints, int]], prompts: list[str], rest: Sequence[str]) -> list[tuple[Ints, int]]:
    """Join clusters with the same strongest word, and those whose words overlap; the largest come first."""
    merged: list[tuple[Ints, int, tuple[str, ...]]] = []
    words = marking_words([[prompts[i] for i in rows] for rows, _ in made], rest)
    for (rows, old), mine in sorted(zip(made, words, strict=True), key=lambda pair: -len(pair[0][0])):
        same = next((k for k, (_, _, other) in enumerate(merged) if _share_words(mine, other)), None)
        if same is None:
            merged.append((rows, old, mine))
        else:
            merged[same] = (np.sort(np.concatenate([merged[same][0], rows])), merged[same][1] + old, merged[same][2])
    return [(rows, old) for rows, old, _ in merged]


def _share_words(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    if not one or not other:
        return False
    return one[0] == other[0] or len(set(one) & set(other)) >= ALIKE * min(len(one), len(other))


def _topic(
    profile: DriftProfile, window: Floats, prompts: list[str], rest: Sequence[str], mine: Ints, known: int
) -> tuple[Topic, Ints, Floats]:
    centre = window[mine].mean(axis=0)
    centre /= max(float(np.linalg.norm(centre)), 1e-12)
    near = mine[np.argsort(-(window[mine] @ centre), kind="stable")]
    (terms,) = marking_words([[prompts[i] for i in mine]], rest)
    topic = Topic(
        share_reference=known / len(profile.reference),
        share_current=len(mine) / len(window),
        rows=len(mine),
        medoids=tuple(list(dict.fromkeys(prompts[i] for i in near))[:MEDOIDS]),
        terms=terms,
    )
    return topic, mine, centre


def marking_words(classes: Sequence[Sequence[str]], rest: Sequence[str]) -> list[tuple[str, ...]]:
    """Return each class's strongest words by c-TF-IDF, tf log(1 + A / f) (Grootendorst 2022, arXiv:2203.05794).

    `rest` is one more class, and words no more frequent in a class than there are dropped. tf, f and A (a word's
    frequency in all classes, and the mean number of words) are per text, so that a large rest drowns no small class.
    """
    rates, plain = [_rates(texts) for texts in classes], _rates(rest)
    overall: dict[str, float] = defaultdict(float)
    for one in (*rates, plain):
        for word, rate in one.items():
            overall[word] += rate
    mean = sum(overall.values()) / (len(rates) + 1)
    found = []
    for one in rates:
        weight = {w: r * math.log1p(mean / overall[w]) for w, r in one.items() if r > GROWTH * plain.get(w, 0.0)}
        ranked = sorted(weight.items(), key=lambda pair: (-pair[1], pair[0]))
        found.append(tuple(word for word, _ in ranked[:TERMS]))
    return found


def _rates(texts: Sequence[str]) -> dict[str, float]:
    """The share of the texts that a word is in."""
    counts = Counter(word for text in texts for word in set(re.findall(r"\w\w+", text.lower())))
    return {word: count / len(texts) for word, count in counts.items()}
