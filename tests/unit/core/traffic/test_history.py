"""A history from elsewhere: read whole or not at all, counted once, without what is private."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from infra.base.visitors import FIRST_TASTE, NEW_TASTE, log_lines
from tasks.core import clock
from tasks.core.config.installation import Settings
from tasks.core.errors import HistoryUnusable
from tasks.core.installation import Installation
from tasks.core.models.clip import Clip
from tasks.core.monitoring.drift_check import DriftCheck
from tasks.core.monitoring.records import DriftRecord
from tasks.core.monitoring.reference import reference_records
from tasks.core.store import FolderStore
from tasks.core.traffic.history import PastRequest, import_history, read_history
from tasks.core.traffic.prompt_log import PromptLine, read_lines
from tests.adire import adire
from tests.shop import MODEL, NOW, SPEC, CountingClip, ago, promote, visit

KEY = "secret"
TIME = "2026-01-31T12:00:00Z"


@pytest.fixture(scope="module")
def clip() -> Clip:
    return CountingClip(adire())


def entry(**changed: object) -> str:
    fields = {"prompt": "rings", "time": TIME, "session": "visitor 7"} | changed
    return json.dumps({name: value for name, value in fields.items() if value is not None})


def imported(store: FolderStore, *lines: str) -> list[PromptLine]:
    """The log after an import of these lines."""
    import_history(store, MODEL, KEY, read_history("past.jsonl", lines))
    return read_lines(store, MODEL, datetime(2025, 1, 1, tzinfo=UTC), NOW)


def fault(*lines: str) -> str:
    with pytest.raises(HistoryUnusable) as caught:
        read_history("past.jsonl", lines)
    return str(caught.value)


def test_a_request_becomes_a_line_of_the_log(folder: FolderStore) -> None:
    (line,) = imported(folder, entry(model="v7"))
    assert (line.prompt, line.time, line.release) == ("rings", datetime(2026, 1, 31, 12, tzinfo=UTC), "imported")
    assert line.session not in ("", "visitor 7")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("rings", "line: Invalid JSON"),
        ("[]", "line: Input should be an object"),
        (entry(prompt=None), "prompt: Field required"),
        (entry(prompt=""), "prompt: String should have at least 1 character"),
        (entry(prompt=7), "prompt: Input should be a valid string"),
        (entry(time=None), "time: Field required"),
        (entry(time="yesterday"), "time: Input should be a valid datetime"),
        (entry(time="2026-01-31T12:00:00"), "time: Input should have timezone info"),
        (entry(session=7), "session: Input should be a valid string"),
    ],
)
def test_a_fault_is_reported_with_its_line(line: str, problem: str) -> None:
    message = fault(entry(), "", line, entry())
    assert message.startswith(f"past.jsonl: line 3: {problem}")
    assert "(1 bad lines; nothing was imported)" in message


def test_all_faults_are_counted_and_the_first_are_reported() -> None:
    message = fault(*[entry(), "{"] * 9)
    assert [f"line {number}:" in message for number in (2, 4, 6, 8, 10, 12)] == [True] * 5 + [False]
    assert "(9 bad lines; nothing was imported)" in message
    assert '{"prompt": "rings", "time": "2026-01-31T12:00:00Z", "session": "visitor 7"}' in message
    assert "\n" not in message


@pytest.mark.parametrize("lines", [[], ["", "  \n", "\n"]])
def test_an_empty_file_is_reported(lines: list[str]) -> None:
    assert fault(*lines).startswith("past.jsonl: it is empty")


def test_the_same_file_twice_counts_once(folder: FolderStore) -> None:
    lines = [entry(), entry(prompt="dots"), entry()]
    first = imported(folder, *lines)
    assert len(first) == 3, "the same request twice in one file are two"
    assert imported(folder, *lines) == first


def test_a_longer_file_adds_what_is_new(folder: FolderStore) -> None:
    imported(folder, entry())
    assert len(imported(folder, entry(), entry(prompt="dots"))) == 2


def test_times_of_other_zones_are_converted(folder: FolderStore) -> None:
    lines = imported(folder, entry(time="2026-02-01T01:30:00+05:30"), entry(time="2026-01-31T12:00:00-08:00"))
    assert [line.time for line in lines] == [datetime(2026, 1, 31, 20, tzinfo=UTC)] * 2
    (key,) = {key.rpartition("/")[0] for key in folder.list(f"prompts/{MODEL}/")}
    assert key == f"prompts/{MODEL}/dt=2026-01-31/hour=20"


def test_without_sessions_every_request_is_a_visitor_of_its_own(folder: FolderStore) -> None:
    prompts = ("Big rings", "Big rings", "dots")
    lines = imported(folder, *[entry(prompt=prompt, session=None) for prompt in prompts])
    assert len(lines) == len({line.session for line in lines}) == 3


def test_visitors_stay_apart_and_unknown(folder: FolderStore) -> None:
    lines = imported(folder, *[entry(session=name, prompt=f"{k}") for k, name in enumerate(("ada", "bob", "ada"))])
    found = {line.prompt: line.session for line in lines}
    assert found["0"] == found["2"] != found["1"]
    assert not {"ada", "bob"} & set(found.values())


def test_what_is_private_is_removed(folder: FolderStore) -> None:
    (line,) = imported(folder, entry(prompt="rings for ada@example.com, +234 803 123 4567", session=None))
    assert line.prompt == "rings for [email], [phone]"
    assert not any(b"ada@" in folder.read(key) for key in folder.list(""))


@pytest.mark.parametrize("text", ["tie\u2028dye", "a\nb", "藍染め", "a\u0085b"])
def test_any_text_comes_back(folder: FolderStore, text: str) -> None:
    lines = imported(folder, entry(prompt=text), entry())
    assert {line.prompt for line in lines} == {text, "rings"}


def test_a_history_ends_the_provisional_days(
    folder: FolderStore, settings: Settings, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    promote(folder)
    visit(folder, 300, NEW_TASTE, (23.9, 0))

    def check() -> DriftRecord:
        return DriftCheck(Installation(settings, folder), adire(), SPEC, clip).run()

    assert check().verdict == "provisional"
    assert reference_records(folder, MODEL) == []
    past = [
        PastRequest(prompt=line.prompt, time=line.time, session=line.session)
        for line in log_lines(1300, FIRST_TASTE, ago(240), NOW - timedelta(hours=25), 2)
    ]
    import_history(folder, MODEL, KEY, past)
    record = check()
    assert (record.verdict, record.requests) == ("retrain", 300)
    (frozen,) = reference_records(folder, MODEL)
    assert frozen.begin == min(request.time for request in past)
