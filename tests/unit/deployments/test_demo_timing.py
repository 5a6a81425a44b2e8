"""What the time of the demo was spent on."""

from datetime import UTC, datetime, timedelta

from deployments.demo.timing import RunTimes, delays, sentence, where_time_went
from tests.candidates import evaluation_result, training_result

BEGIN = datetime(2026, 3, 1, 8, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def run(flow: str, *moments: float, work: tuple[float, float] | None = None) -> RunTimes:
    created, pending, running, ended = map(at, moments)
    return RunTimes(flow, created, pending, running, ended, (at(work[0]), at(work[1])) if work else None)


TRAINING = training_result("t", finished=at(90), seconds=60.0)
EVALUATION = evaluation_result("e", "t", finished=at(150), seconds=40.0, render_seconds=30.0)
RUNS = [
    run("evaluate-challenger", 93, 94, 97, 151, work=(98, 150)),
    run("retrain-model", 10, 11, 14, 170),
    run("train-lora", 15, 16, 19, 92, work=(20, 91)),
    run("ingest-upload", 0, 1, 3, 8),
    run("promote-champion", 152, 153, 155, 160),
    run("monitor-drift", 170, 171, 173, 180),
]


def test_the_parts_add_up_to_the_whole() -> None:
    spent = where_time_went(250.0, 12.0, 30.0, RUNS, [TRAINING], [EVALUATION])
    assert spent == {
        "services": 12.0,
        "starts": 2.0 + 3.0 + 3.0 + 3.0 + 2.0,
        "imports": (71.0 - 60.0) + (52.0 - 40.0),
        "training": 60.0,
        "rendering": 30.0,
        "scoring": 10.0,
        "visitors": 30.0,
        "checks": 7.0,
        "other": 5.0 + 5.0,
        "waiting": 55.0,
    }
    assert sum(spent.values()) == 250.0
    assert sentence(spent).startswith("training 60 s, waiting 55 s, ")


def test_delays_are_those_of_events_and_of_first_steps() -> None:
    assert delays(RUNS, [TRAINING]) == {"event_to_run": [3.0, 4.0], "run_to_training": [91.0 - 14.0 - 60.0]}


def test_a_demo_that_reused_results_never_waited_less_than_nothing() -> None:
    spent = where_time_went(20.0, 12.0, 0.0, [], [TRAINING], [EVALUATION])
    assert (spent["imports"], spent["waiting"]) == (0.0, 0.0)
