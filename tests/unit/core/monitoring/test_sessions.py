"""Traffic of one session: too few to judge, and the check reports why and what to do."""

from collections.abc import Iterator

import pytest

from infra.base.visitors import FIRST_TASTE, NEW_TASTE, log_lines
from tasks.core import clock
from tasks.core.config.installation import Settings
from tasks.core.installation import Installation
from tasks.core.monitoring.drift_check import DriftCheck
from tasks.core.monitoring.explanation import largest_share, session_advice
from tasks.core.monitoring.records import DriftRecord
from tasks.core.reporting.drift_page import drift_page
from tasks.core.reporting.metrics import prometheus_text
from tasks.core.store import FolderStore
from tasks.core.traffic.prompt_log import PromptLine, write_lines
from tests.adire import adire
from tests.shop import DRIFT, MODEL, NOW, SPEC, CountingClip, ago, line, promote, visit


@pytest.fixture(scope="module")
def clip() -> CountingClip:
    return CountingClip(adire())


@pytest.fixture(autouse=True)
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


def from_backends(
    count: int, taste: dict[str, float], hours: tuple[float, float], backends: int
) -> Iterator[PromptLine]:
    """Lines that this number of backends sent for their visitors."""
    for number, found in enumerate(log_lines(count, taste, ago(hours[0]), ago(hours[1]), 2)):
        yield found.model_copy(update={"session": f"backend-{number % backends}"})


def check(store: FolderStore, settings: Settings, clip: CountingClip) -> DriftRecord:
    return DriftCheck(Installation(settings, store), adire(), SPEC, clip).run()


def sent(*counts: int) -> list[PromptLine]:
    """Lines of as many sessions as there are counts."""
    return [line(0, session=f"s{name}") for name, count in enumerate(counts) for _ in range(count)]


@pytest.mark.parametrize(("counts", "share"), [((), 0), ((5,), 1), ((1, 1, 2), 0.5), ((1,) * 10, 0.1)])
def test_the_share_of_the_largest_session(counts: tuple[int, ...], share: float) -> None:
    assert largest_share(sent(*counts)) == share


@pytest.mark.parametrize(
    ("counts", "advised"),
    [((), False), ((20,), False), ((40,), True), ((39,), False), ((100, 100, 100), True), ((30, *(1,) * 100), False)],
)
def test_advice_is_given_if_half_of_the_requests_are_not_counted(counts: tuple[int, ...], advised: bool) -> None:
    assert bool(session_advice(sent(*counts), 20)) is advised


@pytest.mark.parametrize(("backends", "share"), [(2, "50%")])
def test_a_window_of_few_sessions_reports_why_it_decides_nothing(
    folder: FolderStore, settings: Settings, clip: CountingClip, backends: int, share: str
) -> None:
    visit(folder, 1300, FIRST_TASTE, (240, 24.1))
    promote(folder)
    write_lines(folder, MODEL, from_backends(300, NEW_TASTE, (23.9, 0), backends))
    record = check(folder, settings, clip)
    assert (record.verdict, record.largest_session) == ("insufficient_data", 1 / backends)
    advice = f"{share} of the requests came in one session, and at most 20 of a session are counted: "
    advice += f"{300 - 20 * backends} of 300 requests are not"
    assert advice in record.says
    assert "must send `session` with each request" in record.says
    page = drift_page(record, [], DRIFT, model=MODEL)
    assert page.count(advice) == 1
    assert f"<dt>largest session</dt><dd>{share}</dd>" in page
    assert (
        f'dyeworks_drift_largest_session{{model="adire"}} {1 / backends:g}' in prometheus_text(record, MODEL).decode()
    )


def test_a_reference_of_one_session_reports_why_it_does_not_grow(
    folder: FolderStore, settings: Settings, clip: CountingClip
) -> None:
    promote(folder)
    write_lines(folder, MODEL, from_backends(1500, FIRST_TASTE, (240, 0), 1))
    record = check(folder, settings, clip)
    assert record.verdict == "provisional"
    assert "100% of the requests came in one session" in record.says
    assert drift_page(record, [], DRIFT, model=MODEL).count("100% of the requests came in one session") == 1


def test_traffic_of_many_sessions_needs_no_advice(folder: FolderStore, settings: Settings, clip: CountingClip) -> None:
    visit(folder, 1300, FIRST_TASTE, (240, 24.1))
    promote(folder)
    visit(folder, 30, FIRST_TASTE, (23.9, 0), seed=2)
    record = check(folder, settings, clip)
    assert (record.verdict, record.advice) == ("insufficient_data", "")
    assert 0 < record.largest_session <= 0.2
    assert "session" not in record.says
