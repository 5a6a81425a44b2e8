"""The drift detector on simulated traffic: thirty kinds of prompts, Zipf-distributed, and six new kinds."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tasks.core.drift import (
    DriftProfile,
    DriftReport,
    DriftSpec,
    WindowState,
    check,
    explain,
    fit_profile,
    new_traffic_share,
)
from tasks.core.drift.errors import (
    BadEmbeddings,
    EncoderMismatch,
    NullMismatch,
    ProfileUnusable,
    ReferenceTooSmall,
    StateUnusable,
)
from tasks.core.drift.fit import stretches
from tasks.core.drift.groups import Seen, grouped
from tasks.core.drift.null import linear_contrast, null_statistics, on_grid, shared_variance
from tasks.core.drift.rows import capped, constant_columns, fold_of, half_of_groups, row_hashes
from tasks.core.drift.score import psi, share_to_psi
from tasks.core.drift.state import placed_state

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Checker = Callable[..., DriftReport]

ENCODER = "sha256:encoder"
SPEC = DriftSpec(draws=20_000)  # the fewest, in round numbers, with which a retrain can be reached
KINDS, NEW = 30, 6


@dataclass
class World:
    d: int = 64
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def __post_init__(self) -> None:
        self.centres = np.random.default_rng(1).normal(size=(KINDS + NEW, self.d)) / np.sqrt(self.d)
        self.zipf = 1 / np.arange(1, KINDS + 1) / np.sum(1 / np.arange(1, KINDS + 1))

    def seeded(self, seed: int) -> "World":
        return World(self.d, np.random.default_rng(seed))

    def embed(self, kind: Ints) -> Floats:
        rows = self.centres[kind] + self.rng.normal(size=(len(kind), self.d)) * 0.8 / np.sqrt(self.d)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)

    def window(self, n: int, new: float = 0.0) -> Floats:
        kind = self.rng.choice(KINDS, n, p=self.zipf)
        kind[: round(new * n)] = self.rng.integers(KINDS, KINDS + NEW, round(new * n))
        return self.embed(kind)

    def sessions(self, n: int, size: int) -> tuple[Floats, Ints]:
        """Sessions in which every prompt is of one kind."""
        kind = np.repeat(self.rng.choice(KINDS, n // size, p=self.zipf), size)
        return self.embed(kind), np.repeat(self.rng.integers(0, 2**62, n // size), size)

    def with_button(self, n: int) -> tuple[Floats, Ints]:
        """Clean traffic of which a fifth is one prompt, in sessions of three."""
        rows = self.window(n)
        rows[self.rng.permutation(n)[: n // 5]] = World(self.d).window(1)
        return rows, np.arange(n) // 3


@pytest.fixture(scope="session")
def profile() -> DriftProfile:
    return fit_profile(World().window(8000), encoder=ENCODER, spec=SPEC)


@pytest.fixture(scope="session")
def run(profile: DriftProfile, tmp_path_factory: pytest.TempPathFactory) -> Checker:
    cache = tmp_path_factory.mktemp("null")

    def against(
        rows: Floats, groups: Ints | None = None, profile: DriftProfile = profile, seed: int = 0
    ) -> DriftReport:
        return check(profile, rows, encoder=ENCODER, groups=groups, null_cache=cache, seed=seed)

    return against


def verdicts(reports: list[DriftReport]) -> Counter[str]:
    return Counter(report.verdict for report in reports)


@pytest.mark.parametrize("d", [64, 128])
def test_clean_windows_are_stable(run: Checker, d: int) -> None:
    profile = fit_profile(World(d).window(8000), encoder=ENCODER, spec=SPEC)
    world = World(d).seeded(100)
    reports = [run(world.window(300), profile=profile) for _ in range(60)]
    found = verdicts(reports)
    assert found["retrain"] == 0
    assert found["stable"] >= 59
    assert abs(np.mean([report.psi for report in reports])) < 0.015
    assert sum(report.p_value < 0.01 for report in reports) <= 4


@pytest.mark.parametrize(("new", "least"), [(0.4, 20), (0.3, 18), (0.25, 15)])
def test_new_traffic_gives_the_verdict_retrain(run: Checker, new: float, least: int) -> None:
    world = World().seeded(200)
    reports = [run(world.window(300, new)) for _ in range(20)]
    assert verdicts(reports)["retrain"] >= least
    assert np.median([report.new_traffic_share for report in reports]) == pytest.approx(new, abs=0.04)


def test_the_psi_grows_with_the_share_of_new_traffic(run: Checker) -> None:
    world = World().seeded(300)
    found = [np.median([run(world.window(400, new)).psi for _ in range(10)]) for new in (0, 0.1, 0.2, 0.3, 0.45, 0.6)]
    assert found == sorted(found)


def test_all_traffic_new(run: Checker) -> None:
    report = run(World().seeded(301).window(300, 1.0))
    assert report.verdict == "retrain"
    assert report.new_traffic_share > 0.9
    assert report.histogram[-1] > 0.9, "rows beyond the reference's range are counted too"


def test_one_prompt_as_a_fifth_of_clean_traffic_is_no_drift(run: Checker) -> None:
    world = World().seeded(400)
    rows, groups = world.with_button(8000)
    profile = fit_profile(rows, encoder=ENCODER, groups=groups, spec=SPEC)
    reports = [run(*world.with_button(300), profile=profile) for _ in range(30)]
    assert verdicts(reports)["stable"] >= 29
    assert abs(np.mean([report.psi for report in reports])) < 0.02


def test_one_repeated_prompt_without_groups_is_capped(run: Checker) -> None:
    world = World().seeded(401)
    report = run(world.with_button(300)[0])
    assert report.n == 240 + SPEC.session_cap
    assert report.verdict != "retrain"


def test_one_session_with_two_fifths_of_the_rows_is_capped(run: Checker) -> None:
    world = World().seeded(500)
    for _ in range(10):
        rows = np.concatenate([world.window(300), world.window(200, 1.0)])
        groups = np.concatenate([np.arange(300), np.full(200, 10_000)])
        report = run(rows, groups)
        assert report.n == 320
        assert report.verdict != "retrain"
    assert run(rows, np.arange(500)).verdict == "retrain", "the same rows from as many sessions are drift"


def test_overdispersion_prevents_false_alarms_by_correlated_sessions(run: Checker) -> None:
    world = World().seeded(600)
    rows, groups = world.sessions(12_000, 8)
    blocks = np.arange(12_000) // 600
    replayed = fit_profile(rows, encoder=ENCODER, groups=groups, blocks=blocks, spec=SPEC)
    by_itself = fit_profile(rows, encoder=ENCODER, groups=groups, spec=SPEC)
    assert by_itself.card.phi == pytest.approx(replayed.card.phi, rel=0.4)
    trusting = replace(replayed, card=replayed.card.model_copy(update={"phi": 1.0}))
    assert 1.5 < replayed.card.phi < 6
    windows = [world.sessions(1600, 8) for _ in range(30)]
    reports = [run(*window, profile=replayed) for window in windows]
    assert verdicts(reports)["stable"] >= 29
    assert reports[0].n_effective == pytest.approx(1600 / replayed.card.phi)
    careless = [run(*window, profile=trusting).p_value < 0.01 for window in windows]
    assert np.mean(careless) > 2 * np.mean([report.p_value < 0.01 for report in reports])


def test_independent_rows_have_little_overdispersion() -> None:
    rows, blocks = World().seeded(601).window(8000), np.arange(8000) // 500
    assert fit_profile(rows, encoder=ENCODER, blocks=blocks, spec=SPEC).card.phi == 1
    assert fit_profile(rows, encoder=ENCODER, blocks=blocks // 6, spec=SPEC).card.phi == 1, "three blocks are too few"


def test_too_small_a_window_decides_nothing(run: Checker) -> None:
    world = World().seeded(700)
    for n in (0, 1, 2, 7, 50, 199):
        report = run(world.window(n, 1.0))
        assert report.verdict == "insufficient_data"
        assert np.isfinite([report.psi, report.psi_raw, report.n_effective, *report.histogram]).all()
    assert run(world.window(200, 1.0)).verdict == "retrain"


def test_degenerate_windows_do_not_crash(run: Checker) -> None:
    same = np.repeat(World().window(1), 300, axis=0)
    assert run(same).verdict == "insufficient_data", "one text is one group, and capped"
    assert run(same, np.arange(300)).verdict == "insufficient_data", "from however many visitors"
    few = World().window(9)[np.arange(450) % 9]
    assert run(few, np.arange(450)).verdict == "insufficient_data", "nine texts in ten bins"
    for value in (0.1, 0.0):
        constant = World().seeded(701).window(300)
        constant[:, 3:5] = value
        with pytest.raises(BadEmbeddings, match="column 3 is constant in the window and not in the reference"):
            run(constant)


def test_degenerate_references_are_rejected_or_stable(run: Checker) -> None:
    same = np.repeat(World().window(1), 2500, axis=0)
    for groups in (None, np.arange(2500)):
        with pytest.raises(ReferenceTooSmall, match="1 distinct reference rows, 20 are needed"):
            fit_profile(same, encoder=ENCODER, groups=groups, spec=SPEC)
    columns = World().window(2500)
    columns[:, 1:5] = 0.1
    dull = fit_profile(columns, encoder=ENCODER, spec=SPEC)
    assert run(columns[:300], profile=dull).verdict == "stable", "constant in both"
    with pytest.raises(BadEmbeddings, match="column 1 is constant in the reference and not in the window"):
        run(World().window(300), profile=dull)


HALF = -6e-8  # the smallest number of half precision: rounding noise of a column that should be zero


@pytest.mark.parametrize("noise", [0.0, HALF])
@pytest.mark.parametrize("other", [0.0, HALF, 1e-7])
def test_a_column_of_rounding_noise_is_constant(run: Checker, noise: float, other: float) -> None:
    reference, window = World().window(2500), World().seeded(702).window(300)
    reference[:, 5] = np.where(np.arange(2500) % 2, 0.0, noise)
    window[:, 5] = np.where(np.arange(300) % 3, 0.0, other)
    found = fit_profile(reference, encoder=ENCODER, spec=SPEC)
    assert np.flatnonzero(found.constant).tolist() == [5]
    assert run(window, profile=found).verdict == "stable"
    frozen_earlier = replace(found, constant=np.zeros_like(found.constant))
    assert run(window, profile=frozen_earlier).verdict == "stable"
    with pytest.raises(BadEmbeddings, match="column 5 is constant in the reference and not in the window"):
        run(World().window(300), profile=found)
    window[:, 6] = np.where(np.arange(300) % 2, 0.0, noise)
    with pytest.raises(BadEmbeddings, match="column 6 is constant in the window and not in the reference"):
        run(window, profile=found)


def test_constant_columns_do_not_depend_on_the_unit() -> None:
    rows = np.random.default_rng(1).normal(size=(5000, 8))
    rows[:, 2], rows[:, 4] = 7.0, 0.5 + 1e-8 * rows[:, 4]
    rows[:, 6] *= 1e-4
    everything = np.arange(len(rows))
    for unit in (1e-6, 1.0, 1e6):
        assert np.flatnonzero(constant_columns(unit * rows, everything)).tolist() == [2, 4]
    assert constant_columns(np.full((9, 3), 0.1), np.arange(9)).tolist() == [True] * 3
    assert constant_columns(rows, everything[:1]).tolist() == constant_columns(rows, everything[:0]).tolist()
    assert not constant_columns(rows, everything[:1]).any()


@pytest.mark.parametrize("value", [0.1, np.nan, np.inf, 0.0])
def test_a_window_whose_columns_are_all_constant_decides_nothing(run: Checker, value: float) -> None:
    window = np.full((300, 64), value, dtype=np.float32)
    if value == 0.1:
        assert run(window).verdict == "insufficient_data", "one text, three hundred times"
    else:
        with pytest.raises(BadEmbeddings, match=r"current: holds rows with (NaN|Inf|only zeros), the first is row 0"):
            run(window)


def test_damaged_numbers_never_request_a_retrain(profile: DriftProfile, run: Checker, tmp_path: Path) -> None:
    precision = profile.features.precision.copy()
    precision[3, 3] = np.nan
    broken = replace(profile, features=replace(profile.features, precision=precision))
    with pytest.raises(BadEmbeddings, match="profile: gives scores that are not finite"):
        run(World().seeded(702).window(300), profile=broken)
    broken.save(tmp_path / "broken")
    with pytest.raises(ProfileUnusable, match="non-finite"):
        DriftProfile.load(tmp_path / "broken")
    state = WindowState.empty(profile.features, 5)
    state.counts[0, 0], state.sums[0, 0, 0] = 1, np.nan
    with pytest.raises(StateUnusable, match="non-finite"):
        WindowState.from_bytes(state.to_bytes(), state)


@pytest.mark.parametrize("odd", [None, 3.0, "rows", np.zeros(0), np.zeros((300, 64), dtype=np.longdouble)])
def test_input_that_is_no_matrix_is_rejected(run: Checker, odd: object) -> None:
    if isinstance(odd, np.ndarray) and not len(odd):
        assert run(odd).verdict == "insufficient_data"
        return
    with pytest.raises(BadEmbeddings):
        run(odd)


def _spoiled(value: float) -> Floats:
    rows = World().seeded(800).window(300)
    rows[[3, 9]] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (_spoiled(np.nan), r"current: holds rows with NaN, the first is row 3 \(2 bad rows\)"),
        (_spoiled(np.inf), "Inf, the first is row 3"),
        (_spoiled(0.0), "only zeros, the first is row 3"),
        (World(32).window(300), "expected dimension 64, got 32"),
        (np.zeros(64, dtype=np.float32), "expected a float array"),
        (np.ones((300, 64), dtype=np.int64), "expected a float array"),
    ],
)
def test_bad_embeddings_are_rejected(profile: DriftProfile, run: Checker, rows: Floats, message: str) -> None:
    with pytest.raises(BadEmbeddings, match=message):
        run(rows)
    with pytest.raises(BadEmbeddings, match=message):
        explain(profile, rows, ["x"] * len(rows))


def test_bad_groups_and_blocks_are_rejected(run: Checker) -> None:
    rows = World().window(2500)
    with pytest.raises(BadEmbeddings, match=r"groups: expected integers of shape \[300\]"):
        run(rows[:300], np.arange(299))
    with pytest.raises(BadEmbeddings, match="blocks: expected integers"):
        fit_profile(rows, encoder=ENCODER, blocks=np.linspace(0, 1, 2500), spec=SPEC)
    with pytest.raises(BadEmbeddings, match="reference: "):
        fit_profile(_spoiled(np.nan), encoder=ENCODER, spec=SPEC)


def test_rows_need_not_be_normalised(run: Checker) -> None:
    rows = World().seeded(801).window(300)
    assert run(rows * 7, np.arange(300)).psi == pytest.approx(run(rows, np.arange(300)).psi, abs=0.02)


def test_another_encoder_is_rejected(profile: DriftProfile) -> None:
    with pytest.raises(EncoderMismatch, match="sha256:encoder"):
        check(profile, World().window(300), encoder="sha256:other")


def test_a_short_reference_is_rejected() -> None:
    with pytest.raises(ReferenceTooSmall, match="199 reference rows"):
        fit_profile(World().window(199), encoder=ENCODER, spec=SPEC)
    with pytest.raises(ReferenceTooSmall, match="0 reference rows"):
        fit_profile(np.zeros((0, 64), dtype=np.float32), encoder=ENCODER, spec=SPEC)


def test_a_profile_round_trips_through_its_file(profile: DriftProfile, run: Checker, tmp_path: Path) -> None:
    profile.save(tmp_path / "profile.safetensors")
    again = DriftProfile.load(tmp_path / "profile.safetensors")
    rows = World().seeded(900).window(300, 0.2)
    assert again.card == profile.card
    assert run(rows, profile=again) == run(rows)
    assert [path.name for path in tmp_path.iterdir()] == ["profile.safetensors"]


def _resave(path: Path, drop: str | None = None, **changed: object) -> None:
    with safe_open(path, framework="numpy") as held:
        card = json.loads(held.metadata()["dyeworks"]) | changed
    tensors = {name: value for name, value in load_file(path).items() if name != drop}
    save_file(tensors, path, metadata={"dyeworks": json.dumps(card)})


@pytest.mark.parametrize(
    ("drop", "changed"),
    [
        (None, {"layout": "dyeworks.drift.profile/2"}),
        (None, {"surprise": 1}),
        (None, {"phi": 0.5}),
        (None, {"rows_b": 1}),
        ("precision", {}),
    ],
)
def test_a_file_of_another_layout_is_rejected(
    profile: DriftProfile, tmp_path: Path, drop: str | None, changed: dict[str, object]
) -> None:
    path = tmp_path / "profile.safetensors"
    profile.save(path)
    _resave(path, drop, **changed)
    with pytest.raises(ProfileUnusable, match=r"profile\.safetensors"):
        DriftProfile.load(path)


def test_a_file_that_is_no_profile_is_rejected(tmp_path: Path) -> None:
    save_file({"x": np.zeros(2)}, tmp_path / "plain")
    (tmp_path / "torn").write_bytes(b"{}")
    for name in ("plain", "torn", "missing"):
        with pytest.raises(ProfileUnusable, match=name):
            DriftProfile.load(tmp_path / name)


def test_equal_seeds_give_equal_profiles_and_reports(profile: DriftProfile, run: Checker) -> None:
    again = fit_profile(World().window(8000), encoder=ENCODER, spec=SPEC)
    rows = World().seeded(901).window(300, 0.2)
    assert np.array_equal(again.features.precision, profile.features.precision)
    assert run(rows, profile=again) == run(rows)
    other = fit_profile(World().window(8000), encoder=ENCODER, spec=SPEC, seed=1)
    assert not np.array_equal(other.groups, profile.groups)


def test_thresholds_can_be_changed_after_the_fit(profile: DriftProfile, run: Checker) -> None:
    rows = World().seeded(902).window(300, 0.3)
    strict = profile.card.model_copy(update={"spec": SPEC.model_copy(update={"retrain_psi": 2.0})})
    assert run(rows, profile=replace(profile, card=strict)).verdict == "warn"


WORDS = ["apple", "river", "stone", "cloud", "tiger", "paper"]


def prompts_of(kind: Ints) -> list[str]:
    return [f"a picture of {WORDS[k % 6]} and kind{k}" for k in kind]


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_topic_is_found_and_named(seed: int) -> None:
    world = World().seeded(910 + seed)
    known = world.rng.choice(KINDS, 4000, p=world.zipf)
    profile = fit_profile(world.embed(known), groups=np.arange(4000), texts=prompts_of(known), spec=SPEC)
    asked = np.concatenate([np.full(80, KINDS), world.rng.choice(KINDS, 320, p=world.zipf)])
    found = explain(profile, world.embed(asked), prompts_of(asked), groups=np.arange(400))
    assert found.topics[0].terms[0] == f"kind{KINDS}"
    assert found.topics[0].medoids[0] == prompts_of(asked)[0]
    assert found.topics[0].share_current == pytest.approx(0.2, abs=0.03)
    assert found.topics[0].share_reference < 0.02
    flagged = set(found.flagged.tolist())
    assert len(flagged & set(range(80))) >= 0.9 * 80
    assert len(flagged - set(range(80))) <= 20


def test_several_topics_are_distinguished(profile: DriftProfile) -> None:
    world = World().seeded(920)
    asked = np.concatenate([np.repeat([KINDS, KINDS + 1, KINDS + 2], 60), world.rng.choice(KINDS, 320, p=world.zipf)])
    found = explain(profile, world.embed(asked), prompts_of(asked), groups=np.arange(500))
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


def test_the_null_has_an_exact_tail_and_is_fast(tmp_path: Path) -> None:
    started = time.process_time()
    table = null_statistics(300, 5000, cache=tmp_path)
    assert time.process_time() - started < 3, "about a second when the machine is free"
    assert table.p_value(float("inf")) == 1 / 400_001
    assert table.p_value(float(table.values[-1])) == 2 / 400_001
    assert table.p_value(float(table.values[-3000])) == pytest.approx(3001 / 400_001)
    assert table.p_value(0.0) == 1
    assert table.p_value(table.mean) == pytest.approx(0.45, abs=0.1)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 200_000


def test_the_null_is_cached_and_a_torn_table_is_drawn_again(tmp_path: Path) -> None:
    first = null_statistics(300, 5000, draws=1000, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    again = null_statistics(float(first.n_eff), 5000.7, draws=1000, cache=tmp_path)
    assert np.array_equal(first.values, again.values)
    assert first.mean == again.mean
    for torn in (b"", b"PK\x03\x04 nonsense", path.read_bytes()[:200]):
        path.write_bytes(torn)
        assert null_statistics(300, 5000, draws=1000, cache=tmp_path).mean == first.mean
    assert list(tmp_path.iterdir()) == [path]


def test_the_grid_rounds_down_by_less_than_a_sixteenth() -> None:
    for n in (200, 201, 299.5, 1234, 10**6):
        assert 0.94 * n < on_grid(n) <= n
        assert on_grid(on_grid(n)) == on_grid(n)
    assert on_grid(0.3) == 1


def test_a_given_null_table_must_match(profile: DriftProfile, run: Checker) -> None:
    rows = World().seeded(904).window(300)
    fitting = null_statistics(300, len(profile.reference), draws=SPEC.draws)
    assert check(profile, rows, encoder=ENCODER, null=fitting) == run(rows)
    with pytest.raises(NullMismatch):
        check(profile, rows[:250], encoder=ENCODER, null=fitting)


def test_the_psi_of_even_counts_is_zero() -> None:
    assert psi(np.full(10, 30)) == pytest.approx(0)
    assert psi(np.array([300] + [0] * 9)) > 2


@pytest.mark.parametrize(("value", "share"), [(0.1, 0.125), (0.2, 0.186), (0.0, 0.0), (-0.3, 0.0)])
def test_the_share_of_new_traffic(value: float, share: float) -> None:
    assert new_traffic_share(value) == pytest.approx(share, abs=0.001)


def test_the_closed_form_is_inverted() -> None:
    for share in (0.001, 0.05, 0.3, 0.7, 0.99):
        assert new_traffic_share(share_to_psi(share)) == pytest.approx(share, abs=1e-9)
    assert share_to_psi(0.3) == pytest.approx(psi(np.array([70_000] * 9 + [370_000])), abs=1e-3)
    assert new_traffic_share(1e9) <= 1


def test_groups_are_never_split() -> None:
    groups = np.random.default_rng(0).integers(0, 400, 5000)
    side, fold = half_of_groups(groups, np.random.default_rng(0)), fold_of(groups, 5)
    assert not set(groups[side]) & set(groups[~side])
    assert 0.45 < side.mean() <= 0.5
    assert all(len(set(fold[groups == group])) == 1 for group in range(400))
    assert set(fold.tolist()) == set(range(5))
    assert fold_of(np.array([0, 1, -1, 2**62]), 5).tolist() == [0, 0, 1, 0], "the hash must never change"


def test_the_cap_and_the_hash_of_a_row() -> None:
    groups = np.repeat([5, 6, 7], [50, 20, 3])
    kept = capped(groups, 20, np.random.default_rng(0))
    assert Counter(groups[kept].tolist()) == {5: 20, 6: 20, 7: 3}
    rows = World().window(3)[[0, 1, 0, 2]]
    ids = row_hashes("rows", rows)
    assert ids[0] == ids[2]
    assert len(set(ids.tolist())) == 3


def test_a_text_keeps_as_many_rows_as_its_reference_count_makes_likely() -> None:
    rows = World().window(6)
    reference = rows[np.repeat(np.arange(5), [1000, 100, 30, 10, 1])]
    seen = Seen.of(row_hashes("reference", reference))
    window = rows[np.repeat([0, 1, 2, 5], [100, 90, 25, 60])]
    ids, kept = grouped(row_hashes("window", window), None, 20, seen, np.random.default_rng(0))
    kept_rows = Counter(row_hashes("window", window)[kept].tolist())
    first, second, third, new = (kept_rows[h] for h in row_hashes("rows", rows[[0, 1, 2, 5]]).tolist())
    assert (first, third, new) == (100, 20, 20), "an example button, a rare text and one that was never seen"
    assert 20 < second < 90
    assert len(set(ids[:100].tolist())) == 100, "groups of their own: spread over all folds"
    assert len(set(ids[-60:].tolist())) == 1


def test_given_groups_are_used_unchanged() -> None:
    rows = World().window(60)
    hashes = row_hashes("rows", rows)
    ids, kept = grouped(hashes, np.zeros(60, np.int64), 20, Seen.of(hashes), np.random.default_rng(0))
    assert (set(ids.tolist()), len(kept)) == ({0}, 20)


def test_groups_that_only_rename_the_texts_are_texts(run: Checker) -> None:
    world = World().seeded(405)
    rows, groups = world.with_button(8000)
    hashed = [hash(row.tobytes()) for row in rows]
    by_text, by_name = (fit_profile(rows, encoder=ENCODER, groups=g, spec=SPEC) for g in (None, hashed))
    assert by_text.digest == by_name.digest
    reports = []
    for _ in range(20):
        window, _ = world.with_button(300)
        reports.append(run(window, np.array([hash(row.tobytes()) for row in window]), by_name))
    assert verdicts(reports)["stable"] >= 19
    visitors = [run(world.with_button(300)[0], np.arange(300), by_name) for _ in range(20)]
    assert verdicts(visitors)["stable"] >= 19, "a history by texts, a window by visitors"
    sessions = fit_profile(rows, encoder=ENCODER, groups=groups, spec=SPEC)
    assert verdicts([run(world.with_button(300)[0], None, sessions) for _ in range(20)])["stable"] >= 19


def test_the_null_accounts_for_shared_directions() -> None:
    assert shared_variance(300, 10**9, 5) == pytest.approx(2, abs=1e-5)
    assert shared_variance(10**9, 300, 5) == pytest.approx(1, abs=1e-5)
    assert shared_variance(300, 2000, 5) == pytest.approx(2.8 / 1.55)
    contrast = linear_contrast(10)
    assert contrast.sum() == pytest.approx(0)
    assert contrast @ contrast == pytest.approx(1)
    assert list(contrast) == sorted(contrast)


@pytest.mark.parametrize(
    "bad", [{"draws": 10_000}, {"retrain_psi": 0.05}, {"retrain_p": 0.01}, {"folds": 1}, {"colour": "madder"}]
)
def test_an_invalid_spec_is_rejected(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DriftSpec.model_validate(bad)


def test_chunks_a_memory_map_and_an_array_give_the_same_report(
    profile: DriftProfile, run: Checker, tmp_path: Path
) -> None:
    rows, groups = World().seeded(930).window(20_000, 0.1), np.arange(20_000)
    whole = run(rows, groups)
    np.save(tmp_path / "rows.npy", rows)
    assert run(np.load(tmp_path / "rows.npy", mmap_mode="r"), groups) == whole
    assert run((rows[i : i + 777] for i in range(0, 20_000, 777)), groups) == whole
    chunked = fit_profile(np.array_split(World().window(8000), 9), encoder=ENCODER, spec=SPEC)
    assert np.array_equal(chunked.features.precision, profile.features.precision)
    assert run([], np.zeros(0, np.int64)).verdict == "insufficient_data"
    with pytest.raises(BadEmbeddings, match=r"expected float chunks of shape \[k, 64\], got float32 \[5, 32\]"):
        run([rows[:5], rows[:5, :32]], None)


def test_hourly_states_add_up_in_any_order(profile: DriftProfile) -> None:
    world = World().seeded(931)
    rows, groups = world.window(2400, 0.1), np.arange(2400) // 2
    fold, features = fold_of(groups, 5), profile.features
    empty = WindowState.empty(features, 5)
    hours = [np.arange(h * 100, (h + 1) * 100) for h in range(24)]
    states = [placed_state(features.place(rows[hour]), fold[hour], empty) for hour in hours]
    whole = placed_state(features.place(rows), fold, empty)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(24)
        merged = sum((states[i] for i in order), WindowState.empty(features, 5))
        assert np.array_equal(merged.counts, whole.counts)
        assert np.abs(merged.sums - whole.sums).max() < 1e-5
    back = merged - states[3] + states[3]
    assert np.array_equal(back.counts, whole.counts)
    again = WindowState.from_bytes(states[0].to_bytes(), whole)
    assert np.array_equal(again.counts, states[0].counts)
    assert np.array_equal(again.sums, states[0].sums)


def test_a_given_state_gives_the_same_report(profile: DriftProfile, run: Checker, tmp_path: Path) -> None:
    world = World().seeded(932)
    rows = np.concatenate([world.window(300, 0.2), world.window(100, 1.0)])
    groups = np.concatenate([np.arange(300), np.full(100, 9999)])  # one visitor is over the cap
    empty = WindowState.empty(profile.features, 5)
    known = placed_state(profile.features.place(rows), fold_of(groups, 5), empty)
    report = check(profile, rows, groups=groups, encoder=ENCODER, state=known, null_cache=tmp_path)
    whole = run(rows, groups)
    assert (report.n, report.verdict) == (whole.n, whole.verdict) == (320, whole.verdict)
    assert report.psi == pytest.approx(whole.psi, abs=1e-9)


def test_damaged_and_foreign_states_are_rejected(profile: DriftProfile) -> None:
    empty = WindowState.empty(profile.features, 5)
    for data in (b"", b"nonsense", WindowState.empty(profile.features, 6).to_bytes()):
        with pytest.raises(StateUnusable, match="delete it"):
            WindowState.from_bytes(data, empty)


def test_a_small_reference_is_provisional_and_never_retrains(run: Checker, tmp_path: Path) -> None:
    small = fit_profile(World().window(900), encoder=ENCODER, spec=SPEC)
    report = run(World().seeded(933).window(400, 1.0), profile=small)
    assert (small.card.provisional, report.verdict) == (True, "provisional")
    assert report.psi > 1
    assert run(World().window(20), profile=small).verdict == "insufficient_data"


def test_a_large_reference_is_sampled_by_whole_groups() -> None:
    rows, groups = World().window(6000), np.arange(6000) // 3
    profile = fit_profile(rows, groups=groups, spec=SPEC.model_copy(update={"max_reference": 2000}))
    assert 1990 <= profile.card.rows_a + profile.card.rows_b <= 2000
    assert set(np.unique(profile.groups, return_counts=True)[1]) == {3}


def test_stretches_hold_whole_groups_in_their_order() -> None:
    groups = np.random.default_rng(0).permutation(np.arange(1000) // 2)
    blocks = stretches(groups)
    assert len(np.unique(blocks)) == 10
    assert all(len(set(blocks[groups == group])) == 1 for group in range(500))
    assert np.bincount(blocks).min() >= 50
    assert blocks[0] == 0


def test_texts_round_trip_through_the_file(tmp_path: Path) -> None:
    world = World().seeded(934)
    known = world.rng.choice(KINDS, 1000, p=world.zipf)
    profile = fit_profile(world.embed(known), texts=[f"{t} ናይጄሪያ" for t in prompts_of(known)], spec=SPEC)
    profile.save(tmp_path / "profile")
    assert DriftProfile.load(tmp_path / "profile").texts == profile.texts
    assert len(profile.texts) == profile.card.rows_b
