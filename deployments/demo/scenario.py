"""The demo's scenario, step by step. A step may be interrupted anywhere, and is then resumed."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx

from deployments.demo.console import Console
from deployments.demo.plan import DemoProgress, Scale
from deployments.demo.prefect_api import PrefectApi, StartedRun
from deployments.demo.timing import delays, sentence, where_time_went
from deployments.stack import Stack
from infra.base.visitors import FIRST_TASTE, NEW_TASTE, Request, log_lines, requests
from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.data.dataset import load_manifest
from tasks.core.data.remarks import remark
from tasks.core.errors import DyeworksError
from tasks.core.installation import Installation
from tasks.core.monitoring.records import DriftRecord, read_records
from tasks.core.registry.channel import read_channel
from tasks.core.registry.results import EvaluationResult, TrainResult, result_folder
from tasks.core.retraining.decisions import RetrainDecision, read_decisions
from tasks.core.store import is_key
from tasks.core.store.documents import read_documents
from tasks.core.traffic.prompt_log import hash_session, read_lines, write_lines

TIMEOUT = 1500.0  # seconds of any single wait
LOOK = 1.0  # seconds between two looks at what is waited for
PROGRESS = {"train-lora": "training", "evaluate-challenger": "evaluation"}  # flows with a progress artifact
MONITOR = "monitor-drift"
ENDING = {"retrain-model", MONITOR}  # flows whose runs go on for a while after what the demo waits for


class DemoFailed(DyeworksError):
    """The demo cannot continue."""


class Scenario:
    """One demo: the services, the store, and the progress so far."""

    def __init__(
        self,
        stack: Stack,
        installation: Installation,
        model: ModelConfig,
        scale: Scale,
        progress: Path,
        console: Console | None = None,
    ) -> None:
        self.stack, self.store, self.settings, self.scale = stack, installation.store, installation.settings, scale
        self.model, self.dataset = model.name, model.dataset
        self.path, self.progress = progress, DemoProgress.load(progress)
        self.console = console or Console(self.progress.elapsed)
        self.api = PrefectApi(stack.url("server"))
        self.states: dict[str, str] = {run.id: run.state for run in self.api.runs()}

    def step(self, name: str, title: str, act: Callable[[], object]) -> None:
        """Run a step of the scenario, unless an earlier attempt has completed it."""
        if name in self.progress.done:
            return
        self.console.title(title)
        start = time.monotonic()
        act()
        self.took(name, time.monotonic() - start)
        self.progress.done.append(name)
        self.note(title)

    def took(self, name: str, seconds: float) -> None:
        """Add to the seconds of a step, over all attempts."""
        self.progress.seconds[name] = round(self.progress.seconds.get(name, 0) + seconds, 1)

    def end(self) -> None:
        """End the demo, and record what its time was spent on."""
        self.wait("the end of the last run", lambda: not any(run.flow in ENDING for run in self._under_way()))
        self.note("The demo ends")
        seconds, runs = self.progress.seconds, self.api.times()
        trainings = list(read_documents(self.store, TrainResult, result_folder(self.model, TrainResult)))
        evaluations = list(read_documents(self.store, EvaluationResult, result_folder(self.model, EvaluationResult)))
        visitors = seconds.get("calm_traffic", 0.0) + seconds.get("shifted_traffic", 0.0)
        self.progress.spent = where_time_went(
            self.progress.elapsed, seconds.get("services", 0.0), visitors, runs, trainings, evaluations
        )
        self.progress.delays = delays(runs, trainings)
        self.console.line(f"the time was spent on: {sentence(self.progress.spent)}")

    def _under_way(self) -> list[StartedRun]:
        return [run for run in self.api.runs() if run.state in {"PENDING", "RUNNING", "CANCELLING"}]

    def note(self, text: str) -> None:
        """Add an entry to the report's timeline."""
        self.progress.elapsed = self.console.elapsed
        self.progress.timeline.append((round(self.console.elapsed, 1), text))
        self.progress.save(self.path)

    # Actions

    def upload(self, folder: Path) -> None:
        """Put a folder's files into the uploads and notify the gateway, as an object store would."""
        keys = []
        files = sorted(path for path in folder.iterdir() if path.is_file())
        odd = [path.name for path in files if not is_key(path.name)]
        for line in remark(odd, "file", "left out: their names are not valid keys of a store"):
            self.console.line(line)
        for path in (path for path in files if is_key(path.name)):
            key = f"uploads/{self.dataset}/{path.name}"
            self.store.write(key, path.read_bytes())
            keys.append(key)
        records = [
            {"s3": {"bucket": {"name": "demo"}, "object": {"key": key, "sequencer": f"{i:08x}"}}}
            for i, key in enumerate(keys)
        ]
        answer = httpx.post(
            f"{self.stack.url('gateway')}/hooks/s3",
            json={"Records": records},
            headers={"Authorization": f"Bearer {self.stack.token}"},
            timeout=60,
        )
        answer.raise_for_status()
        self.console.line(f"{len(keys)} files uploaded; the gateway was notified")

    def visit(self, taste: dict[str, float], seed: int) -> None:
        """Send render requests to the storefront, except those that an earlier attempt has served."""
        now = clock.now()
        logged = {line.session for line in read_lines(self.store, self.model, now - timedelta(days=2), now)}
        key = self.stack.session_key
        waiting = [r for r in requests(self.scale.window, taste, seed) if hash_session(r.session, key) not in logged]
        started = time.monotonic()
        with ThreadPoolExecutor(self.scale.clients) as pool, httpx.Client(timeout=300) as client:
            for i, _ in enumerate(pool.map(lambda r: self._ask(client, r), waiting), 1):
                self.console.progress(f"visitors: {i} of {len(waiting)} pictures")
        self.console.line(f"{len(waiting)} requests served in {time.monotonic() - started:.0f} s")
        time.sleep(2 * self.settings.log_seconds)

    def _ask(self, client: httpx.Client, request: Request) -> None:
        body = {"prompt": request.prompt, "seed": request.seed, "steps": self.scale.steps, "user": request.session}
        client.post(f"{self.stack.url('storefront')}/v1/images/generations", json=body).raise_for_status()

    def import_log(self, count: int, taste: dict[str, float], hours: tuple[float, float], seed: int) -> None:
        """Import prompt-log lines, with times between so many hours ago."""
        now = clock.now()
        begin, end = (now - timedelta(hours=h) for h in hours)
        write_lines(self.store, self.model, log_lines(count, taste, begin, end, seed))
        self.console.line(
            f"{count} lines of prompt log imported, from {hours[0] / 24:.1f} to {hours[1] / 24:.1f} days ago"
        )

    def pass_time(self, hours: float) -> None:
        """Advance the clock of all services."""
        path = Path(self.settings.clock)
        ahead = float(path.read_text(encoding="utf-8")) if path.exists() else 0.0
        path.write_text(str(ahead + 3600 * hours), encoding="utf-8")
        self.console.line(f"the demo's clock advances by {hours:g} hours")

    # Waiting

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        """Wait until a condition holds; prints the flow runs meanwhile."""
        deadline = time.monotonic() + TIMEOUT
        while not done():
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what} did not happen within {TIMEOUT:.0f} s; see {self.stack.home}/logs")
            self._watch()
            time.sleep(LOOK)
        self._watch()

    def _watch(self) -> None:
        runs = self.api.runs()
        for run in reversed(runs):
            if self.states.get(run.id) == run.state:
                continue
            self.states[run.id] = run.state
            self.console.line(f"   {run.flow}: {run.state.lower()}")
            if run.state == "FAILED":
                raise DemoFailed(f"{run.flow} failed: {run.message}")
        for run in runs:
            if run.flow in PROGRESS and run.state == "RUNNING" and (progress := self.api.progress(run.id)):
                self.console.progress(f"{PROGRESS[run.flow]}: {progress}")

    def outcomes(self) -> list[RetrainDecision]:
        """The outcomes of the retrains so far."""
        return [d for d in read_decisions(self.store, self.model) if d.cause == "outcome"]

    def wait_outcome(self, number: int) -> RetrainDecision:
        """Wait for the outcome of the retrain with this number, and until a promoted release is served."""
        self.wait(f"the outcome of retrain {number}", lambda: len(self.outcomes()) >= number)
        outcome = self.outcomes()[number - 1]
        self.console.line(f"gate: {outcome.outcome}: {outcome.reason}")
        if outcome.outcome == "promote":
            self.wait(f"generation {outcome.generation} in the storefront", lambda: self._served(outcome.generation))
            self.console.line(f"the storefront serves generation {outcome.generation}")
        return outcome

    def _served(self, generation: int) -> bool:
        answer = httpx.get(f"{self.stack.url('storefront')}/readyz", timeout=30)
        channel, _ = read_channel(self.store, self.model)
        served = answer.json().get("models", {}).get(self.model, {}).get("generation")
        return bool(channel and channel.generation >= generation and served == channel.generation)

    def wait_check(self, name: str, verdict: str, at_once: bool) -> DriftRecord:
        """Wait for a drift check with this verdict and a page: one that is started now, or one since the step began."""
        begin = clock.now() if at_once else self.progress.begun.setdefault(name, clock.now())
        self.progress.save(self.path)
        if at_once:
            self.api.start(MONITOR)

        def found() -> list[DriftRecord]:
            every = [r for r in read_records(self.store, self.model) if r.time >= begin]
            mine = with_verdict(every, verdict, only=at_once)
            return [r for r in mine if self.store.exists(f"{r.key.rpartition('/')[0]}/report.html")]

        self.wait(f"a drift check with the verdict {verdict}", lambda: bool(found()))
        record = found()[0]
        self.console.line(f"monitor: {record.verdict}: {record.says}")
        if record.drift:
            self.progress.psi[name] = round(record.drift.psi, 4)
        return record

    def wait_scheduled_check(self, name: str, verdict: str) -> DriftRecord:
        """Wait for a check of the monitor's schedule, which is active only meanwhile: it costs seconds of CPU."""
        self.api.schedule(MONITOR, active=True)
        try:
            return self.wait_check(name, verdict, at_once=False)
        finally:
            self.api.schedule(MONITOR, active=False)


def with_verdict(records: list[DriftRecord], verdict: str, *, only: bool) -> list[DriftRecord]:
    """The checks with this verdict; raises DemoFailed if there is another one and no further check will follow."""
    if others := [r for r in records if only and r.verdict != verdict]:
        raise DemoFailed(f"the drift check found {others[0].verdict}, not {verdict}: {others[0].says}")
    return [r for r in records if r.verdict == verdict]


def play(scenario: Scenario, first: Path, new: Path | None) -> None:
    """Play the whole scenario; it ends early if the gate rejects a challenger."""
    scenario.api.schedule(MONITOR, active=False)
    scenario.step(
        "first_model",
        "New pictures arrive; a first model is trained, gated, published",
        lambda: _first_model(scenario, first),
    )
    if scenario.outcomes()[0].outcome != "promote":
        scenario.console.line("the gate kept the bare base: the demo ends here, as it would in production")
        return
    scenario.step(
        "history",
        "A history of prompts is imported",
        lambda: scenario.import_log(scenario.scale.history, FIRST_TASTE, (30 * 24, 25), seed=1),
    )
    scenario.step(
        "calm_traffic",
        "Traffic matches the training data",
        lambda: scenario.visit(FIRST_TASTE, seed=2),
    )
    scenario.step(
        "calm_check", "The drift monitor checks", lambda: scenario.wait_check("before", "stable", at_once=True)
    )
    if new is not None:
        _shift(scenario, new)


def _shift(scenario: Scenario, new: Path) -> None:
    scenario.step(
        "new_pictures",
        "A day later: pictures of new motifs arrive, too few for a retrain by themselves",
        lambda: _new_pictures(scenario, new),
    )
    scenario.step("shifted_traffic", "The traffic shifts to new motifs", lambda: scenario.visit(NEW_TASTE, seed=3))
    scenario.step(
        "drift",
        "The scheduled monitor finds the drift; its event starts the retrain",
        lambda: scenario.wait_scheduled_check("after_shift", "retrain"),
    )
    scenario.step("second_model", "The model retrains itself", lambda: scenario.wait_outcome(2))
    if scenario.outcomes()[1].outcome != "promote":
        scenario.console.line(
            "the gate kept the champion: the policy now waits for more pictures, and so the demo ends here"
        )
        return
    scenario.step("shifted_history", "Two days of the new traffic pass", lambda: _two_days(scenario))
    scenario.step(
        "final_check",
        "The monitor compares with the new model's own reference",
        lambda: scenario.wait_check("after_retrain", "stable", at_once=True),
    )


def _first_model(scenario: Scenario, first: Path) -> None:
    scenario.upload(first)
    scenario.wait_outcome(1)


def _new_pictures(scenario: Scenario, new: Path) -> None:
    before = load_manifest(scenario.store, scenario.dataset).version
    if "clock" not in scenario.progress.done:
        scenario.pass_time(36)
        scenario.progress.done.append("clock")
        scenario.note("36 hours pass")
    scenario.upload(new)
    scenario.wait("the ingest", lambda: _announced(scenario, before))


def _two_days(scenario: Scenario) -> None:
    scenario.pass_time(48)
    scenario.import_log(scenario.scale.shifted, NEW_TASTE, (47.5, 0), seed=4)


def _announced(scenario: Scenario, before: str) -> bool:
    """Whether the policy has decided on the new version; its pictures alone start no retrain."""
    version = load_manifest(scenario.store, scenario.dataset).version
    taken = [d for d in read_decisions(scenario.store, scenario.model) if d.dataset_version == version]
    decided = [d for d in taken if d.cause == "data"]
    if version == before or not decided:
        return False
    scenario.console.line(f"policy: {decided[-1].action}: {decided[-1].reason}")
    return True
