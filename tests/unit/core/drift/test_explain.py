"""Explanations: planted topics are found and named."""

import numpy as np
import pytest

from tasks.core.drift import DriftProfile, explain, fit_profile
from tasks.core.drift.errors import BadEmbeddings
from tests.unit.core.drift.kinds import KINDS, SPEC, World, texts_of


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_topic_is_found_and_named(seed: int) -> None:
    world = World().seeded(910 + seed)
    known = world.rng.choice(KINDS, 4000, p=world.zipf)
    profile = fit_profile(world.embed(known), groups=np.arange(4000), texts=texts_of(known), spec=SPEC)
    asked = np.concatenate([np.full(80, KINDS), world.rng.choice(KINDS, 320, p=world.zipf)])
    found = explain(profile, world.embed(asked), texts_of(asked), groups=np.arange(400))
    assert found.topics[0].terms[0] == f"kind{KINDS}"
    assert found.topics[0].medoids[0] == texts_of(asked)[0]
    assert found.topics[0].share_current == pytest.approx(0.2, abs=0.03)
    assert found.topics[0].share_reference < 0.02
    flagged = set(found.flagged.tolist())
    assert len(flagged & set(range(80))) >= 0.9 * 80
    assert len(flagged - set(range(80))) <= 20


def test_several_topics_are_distinguished(profile: DriftProfile) -> None:
    world = World().seeded(920)
    asked = np.concatenate([np.repeat([KINDS, KINDS + 1, KINDS + 2], 60), world.rng.choice(KINDS, 320, p=world.zipf)])
    found = explain(profile, world.embed(asked), texts_of(asked), groups=np.arange(500))
    assert {f"kind{k}" for k in (KINDS, KINDS + 1, KINDS + 2)} <= {term for t in found.topics for term in t.terms}
    assert [len(rows) for rows in found.members] == [topic.rows for topic in found.topics]
    assert found.centres.shape == (len(found.topics), 64)


def test_calm_and_empty_windows_have_nothing_to_explain(profile: DriftProfile) -> None:
    world = World().seeded(921)
    calm = [explain(profile, world.window(300), [""] * 300, groups=np.arange(300)) for _ in range(10)]
    assert sum(len(found.flagged) for found in calm) < 0.05 * 10 * 300
    nothing = explain(profile, np.zeros((0, 64), dtype=np.float32), [])
    assert (nothing.topics, nothing.flagged.tolist()) == ((), [])
    with pytest.raises(BadEmbeddings, match="texts: expected 300, got 1"):
        explain(profile, world.window(300), ["one"])
