"""New traffic: topics with their coverage by captions, and a sample of their prompts."""

import numpy as np
import pytest

from tasks.core.drift import DriftProfile, DriftSpec, Explanation, Topic, fit_profile
from tasks.core.drift.rows import Floats
from tasks.core.monitoring.explanation import WindowExplanation, explain_window, near_from, sample_prompts
from tests.worlds import World

D = 16
WORLD = World(D, kinds=10, new=1, seed=3)
TOPIC = Topic(share_reference=0, share_current=0.5, rows=9, medoids=(), terms=())
NONE = np.zeros((0, D), np.float32)


def turned(degrees: list[float]) -> Floats:
    """Rows of length one, at these angles to the first axis."""
    angles = np.deg2rad(np.array(degrees))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def sample(topics: list[list[str]], most: int = 12) -> tuple[str, ...]:
    """The sample of topics whose texts are in order of distance from the centre."""
    texts = [text for topic in topics for text in topic]
    places = np.split(np.arange(len(texts)), np.cumsum([len(topic) for topic in topics])[:-1])
    rows = turned([float(k) for topic in topics for k in range(len(topic))])
    centres = turned([0.0] * len(topics))
    return sample_prompts(Explanation((TOPIC,) * len(topics), tuple(places), centres), rows, texts, most)


@pytest.fixture(scope="module")
def profile() -> DriftProfile:
    rows = WORLD.window(1500, np.random.default_rng(1))
    spec = DriftSpec(clusters=8, draws=20_000, min_reference=1000)
    return fit_profile(rows, spec=spec, groups=np.arange(1500), texts=["old rings"] * 1500)


@pytest.fixture(scope="module")
def window() -> Floats:
    """Half of it is of a new kind."""
    known, new = WORLD.window(200, np.random.default_rng(2)), WORLD.embed(np.full(200, 10), np.random.default_rng(3))
    return np.concatenate([known, new])


TEXTS = ["old rings"] * 200 + [f"new moons {k} for ada{k}@example.com" for k in range(200)]


def news(profile: DriftProfile, window: Floats, captions: Floats, most: int = 12) -> WindowExplanation:
    return explain_window(profile, window, TEXTS, np.arange(len(window)), captions, most)


def test_prompts_that_differ_in_case_or_spaces_are_one() -> None:
    assert sample([["Rings", "rings", " RINGS ", "big  rings", "Big Rings", "dots"]]) == ("Rings", "big  rings", "dots")


def test_the_same_prompt_in_two_topics_is_sampled_once() -> None:
    assert sample([["Rings", "dots"], ["rings", "waves"]]) == ("Rings", "dots", "waves")


def test_addresses_are_removed_and_prompts_that_differ_in_them_alone_are_one() -> None:
    picked = sample([["rings for ada@example.com", "Rings for bob@example.com", "call +234 803 123 4567"]])
    assert picked == ("rings for [email]", "call [phone]")


def test_topics_take_turns_from_their_centres_outwards() -> None:
    topics = [[f"{name}{k}" for k in range(20)] for name in "ab"]
    assert sample(topics, 6) == ("a0", "b0", "a3", "b3", "a7", "b7")
    assert sample([*topics, ["c0"]], 5) == ("a0", "b0", "c0", "a4", "b4")


@pytest.mark.parametrize("most", [1, 2, 5, 40, 100])
def test_a_sample_is_as_large_as_was_asked_for_where_there_is_enough(most: int) -> None:
    picked = sample([[f"{name}{k}" for k in range(20)] for name in "ab"], most)
    assert len(picked) == len(set(picked)) == min(most, 40)


def test_without_topics_there_is_no_sample() -> None:
    assert sample_prompts(Explanation((), (), NONE), NONE, [], 12) == ()


def test_near_is_half_way_from_any_caption_to_the_nearest() -> None:
    known, captions = np.eye(4, dtype=np.float32)[:1], turned([0, 60, 60, 90, 90])
    captions = np.concatenate([captions, np.zeros((5, 2), np.float32)], axis=1)
    assert near_from(known, captions) == pytest.approx((1.0 + 0.5) / 2, abs=1e-4)


def test_without_captions_nothing_is_near() -> None:
    assert near_from(turned([0, 1]), np.zeros((0, 2), np.float32)) is None


def test_topics_carry_the_cosine_of_their_nearest_caption(profile: DriftProfile, window: Floats) -> None:
    there = WORLD.centres[10:11] / np.linalg.norm(WORLD.centres[10])
    found = news(profile, window, there.astype(np.float32))
    away = news(profile, window, -there.astype(np.float32))
    assert len(found.topics) == 1
    assert found.topics[0].share_current == pytest.approx(0.5, abs=0.05)
    assert found.topics[0].coverage
    assert found.topics[0].coverage > 0.95
    assert away.topics[0].coverage == pytest.approx(-found.topics[0].coverage, abs=1e-3)
    assert found.coverage_near
    assert found.coverage_near < found.topics[0].coverage


def test_without_captions_topics_have_no_coverage(profile: DriftProfile, window: Floats) -> None:
    found = news(profile, window, NONE)
    assert [topic.coverage for topic in found.topics] == [None]
    assert found.coverage_near is None


def test_what_is_reported_is_redacted_and_new(profile: DriftProfile, window: Floats) -> None:
    found = news(profile, window, NONE, 5)
    assert len(found.sample) == 5
    reported = [*found.sample, *found.topics[0].medoids]
    assert all(text.endswith("for [email]") for text in reported if "moons" in text)
    assert sum("moons" in text for text in reported) >= len(reported) - 1


def test_traffic_without_drift_has_no_topics(profile: DriftProfile) -> None:
    rows = WORLD.window(300, np.random.default_rng(4))
    found = explain_window(profile, rows, ["old rings"] * 300, np.arange(300), NONE, 12)
    assert found == WindowExplanation()
