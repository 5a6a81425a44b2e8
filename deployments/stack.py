"""The services of one machine: started on free ports, stopped by pid, with their own home."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tasks.core.config.installation import ROOT, Settings
from tasks.core.errors import DyeworksError
from tasks.core.installation import open_installation

START_SECONDS = 400
STOP_SECONDS = 15


class ServiceFailed(DyeworksError):
    """A service did not start."""


@dataclass
class Stack:
    """Prefect server, workers, webhook, storefront and, if asked for, MLflow's page."""

    home: Path
    extra: dict[str, str] = field(default_factory=dict)
    models: Path | None = None  # YAML file of a model, or folder of them, to apply before the services start
    model: str = ""  # served by the storefront; the only one of the store where none is named
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.home.resolve()
        self.models = self.models and self.models.resolve()
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        self.ports = {name: _free_port() for name in ("server", "webhook", "storefront", "mlflow")}
        self.unclean = (self.home / "pids.json").exists()
        self.token = _secret(self.home / "webhook-token")
        self.session_key = _secret(self.home / "session-key")

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the stack is started with."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        return (
            keep
            | {
                "PREFECT_HOME": str(self.home / "prefect"),
                "PREFECT_API_URL": f"{self.url('server')}/api",
                "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.home}/prefect.db",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
                "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
                # In memory, the default, a restart of the server would leave a slot taken for ever.
                "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
                "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
                "PREFECT_WORKER_QUERY_SECONDS": "1",
                "PREFECT_CLIENT_MAX_RETRIES": "7",  # a server on SQLite is locked for a while now and then
                "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
                "MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.home}/mlflow.db",
                "DYEWORKS_STORE": _absolute(os.environ.get("DYEWORKS_STORE", str(self.home / "store"))),
                "DYEWORKS_CACHE": str(self.home / "cache"),
                "DYEWORKS_WEBHOOK_TOKEN": self.token,
                "DYEWORKS_SESSION_KEY": self.session_key,
                "PYTHONPATH": str(ROOT),
                "PYTHONUNBUFFERED": "1",
                "GRADIO_ANALYTICS_ENABLED": "False",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "MLFLOW_DISABLE_TELEMETRY": "true",
                # Half of the cores for a process: with all of them training and services wait for each other.
                "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2))),
            }
            | self.extra
        )

    def url(self, service: str) -> str:
        """Where a service listens."""
        return f"http://127.0.0.1:{self.ports[service]}"

    def spawn(self, name: str, *command: str) -> None:
        """Start a process in a group of its own; its output goes to logs/<name>.log."""
        with (self.home / "logs" / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self._remember()

    def run(self, *command: str) -> None:
        """Run a command to its end; raises ServiceFailed with its output."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise ServiceFailed(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def start_all(self) -> None:
        """Server, workers, webhook and storefront; returns when all answer.

        Raises:
            ModelUnknown: no model is named, and the store does not hold just one.
            ServiceFailed: a command failed, or a service does not answer.
        """
        self.apply_models()
        self.model = open_installation(Settings(store=self.environment["DYEWORKS_STORE"])).model(self.model).name
        self.start_webhook()
        self.start_storefront()
        self.start_server()
        if self.unclean:
            self.crash_orphans()
            self.run(*_tool("dyeworks"), "outbox", "resend")
        self.start_worker()
        self.wait("webhook", "/health")
        self.wait("storefront", "/health")

    def apply_models(self) -> None:
        """Put the configurations of `models` in force."""
        if self.models:
            self.run(*_tool("dyeworks"), "models", "apply", str(self.models))

    def crash_orphans(self) -> None:
        """Mark runs whose processes were killed as Crashed: no process of this home is left to end them."""
        from prefect.client.orchestration import SyncPrefectClient  # noqa: PLC0415  late: it takes a second
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType  # noqa: PLC0415
        from prefect.client.schemas.objects import State, StateType  # noqa: PLC0415
        from prefect.states import Crashed  # noqa: PLC0415

        types = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
        with SyncPrefectClient(f"{self.url('server')}/api") as client:
            for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=types))):
                crashed: State[None] = Crashed(message="its process was gone when the services started")
                client.set_flow_run_state(run.id, crashed, force=True)

    def start_server(self) -> None:
        """The Prefect server, with every deployment registered."""
        self.spawn(
            "server", *_tool("prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(self.ports["server"])
        )
        self.wait("server", "/api/health")
        self.run(*_tool("dyeworks"), "bootstrap")
        self.run(*_tool("prefect"), "--no-prompt", "deploy", "--all")

    def start_worker(self, *pools: str) -> None:
        """A process worker for each of the pools; all where none is named."""
        for pool in pools or ("default", "gpu"):
            self.spawn(
                f"worker-{pool}", *_tool("prefect"), "worker", "start", "--pool", pool, "--name", f"local-{pool}"
            )

    def start_webhook(self) -> None:
        """The upload webhook."""
        self._serve("webhook")

    def start_storefront(self) -> None:
        """The storefront."""
        self._serve("storefront", *(("--model", self.model) if self.model else ()))

    def start_mlflow(self) -> str:
        """MLflow's page, unless a server elsewhere is tracked to; where the page is."""
        where = self.environment["MLFLOW_TRACKING_URI"]
        if not _is_database(where):
            return _without_password(where)
        # Not as an argument, which every user of the machine can read: it may hold a password.
        self.extra |= {"MLFLOW_BACKEND_STORE_URI": where, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.spawn("mlflow", *_tool("mlflow"), "server", "--port", str(self.ports["mlflow"]))
        return self.url("mlflow")

    def _serve(self, name: str, *options: str) -> None:
        self.spawn(name, *_tool("dyeworks"), "serve", name, "--port", str(self.ports[name]), *options)

    def wait(self, service: str, path: str) -> None:
        """Until a service answers 200; raises ServiceFailed with the end of its log."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(self.url(service) + path, timeout=5).status_code == 200:
                    return
            if self.processes[service].poll() is not None:
                break
            time.sleep(0.3)
        log = (self.home / "logs" / f"{service}.log").read_text("utf-8", errors="replace")
        raise ServiceFailed(f"{service} did not start; the end of its log:\n{log[-2000:]}")

    def wait_end(self) -> str:
        """Until one of the services ends; its name."""
        while True:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    return name
            time.sleep(0.5)

    def stop(self) -> None:
        """Stop all, newest first."""
        for process in reversed(self.processes.values()):
            _end(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
        stop_leftovers(self.home)
        (self.home / "pids.json").unlink(missing_ok=True)

    def _remember(self) -> None:
        pids = {name: process.pid for name, process in self.processes.items()}
        (self.home / "pids.json").write_text(json.dumps({"pids": pids, "urls": {n: self.url(n) for n in self.ports}}))


def stop_leftovers(home: Path) -> list[int]:
    """Kill every process of this home that is still there, flow runs included; their pids."""
    mine = [pid for pid in _processes_of(home.resolve()) if pid != os.getpid()]
    for pid in mine:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return mine


def _processes_of(home: Path) -> Iterator[int]:
    """Processes that were started with this home: their environment names it."""
    mark = f"PREFECT_HOME={home / 'prefect'}".encode()
    for place in Path("/proc").glob("[0-9]*") if Path("/proc").exists() else ():
        with contextlib.suppress(OSError):
            if mark in (place / "environ").read_bytes().split(b"\0"):
                yield int(place.name)


def _end(pid: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, how)


def _tool(name: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).parent / name),)


def _absolute(store: str) -> str:
    """The address of a store for processes that run in another folder."""
    return store if "://" in store else str(Path(store).resolve())


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _is_database(uri: str) -> bool:
    """Whether an address of MLflow is that of a database or a file here, not of a server that has its own page."""
    return not uri.startswith(("http:", "https:", "databricks", "uc:"))


def _without_password(uri: str) -> str:
    scheme, found, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + found + host.rpartition("@")[2] + slash + path


def _secret(path: Path) -> str:
    """A random secret, made once, or again where a kill has left none, and readable by its owner alone."""
    if not path.exists() or not path.read_text("utf-8").strip():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(24))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    path.chmod(0o600)
    return path.read_text("utf-8").strip()
