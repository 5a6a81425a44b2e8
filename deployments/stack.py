"""All services on one machine: started on free ports, stopped by pid, with a home folder of their own."""

import contextlib
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tasks.core.access.errors import KeyRejected, KeyUnknown
from tasks.core.access.keys import KeyRing, create_key, revoke_key
from tasks.core.config.installation import ROOT, Settings
from tasks.core.errors import DyeworksError
from tasks.core.installation import of_one_base, open_installation
from tasks.core.store import Store
from tasks.core.store.documents import digest

START_SECONDS = 400
STOP_SECONDS = 15


class ServiceFailed(DyeworksError):
    """A service did not start."""


@dataclass
class Stack:
    """Prefect server, workers, gateway, storefront and, optionally, the MLflow server."""

    home: Path
    extra: dict[str, str] = field(default_factory=dict)
    models: Path | None = None  # YAML file of a model, or folder of them, to apply before the services start
    served: tuple[str, ...] = ()  # models of the storefront; all of the store if empty
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.home.resolve()
        self.models = self.models and self.models.resolve()
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        self.ports = {name: _free_port() for name in ("server", "gateway", "storefront", "mlflow")}
        self.restarted = (self.home / "prefect.db").exists()
        self.unclean = (self.home / "pids.json").exists()
        self.token = _secret(self.home / "webhook-token")
        self.session_key = _secret(self.home / "session-key")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process of the stack."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        return (
            inherited
            | {
                "PREFECT_HOME": str(self.home / "prefect"),
                "PREFECT_API_URL": f"{self.url('server')}/api",
                "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.home}/prefect.db",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
                "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
                # With the default, in memory, a restart of the server would never release a slot.
                "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
                "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
                "PREFECT_WORKER_QUERY_SECONDS": "1",
                "PREFECT_CLIENT_MAX_RETRIES": "7",  # SQLite is sometimes locked for a while
                "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
                "MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.home}/mlflow.db",
                "DYEWORKS_STORE": _absolute(os.environ.get("DYEWORKS_STORE", str(self.home / "store"))),
                "DYEWORKS_CACHE": str(self.home / "cache"),
                "DYEWORKS_SPOOL": str(self.home / "spool"),
                "DYEWORKS_LOG_SECONDS": os.environ.get("DYEWORKS_LOG_SECONDS", "1"),  # one machine: a write is cheap
                "DYEWORKS_WEBHOOK_TOKEN": self.token,
                "DYEWORKS_UPLOAD_QUIET_SECONDS": os.environ.get("DYEWORKS_UPLOAD_QUIET_SECONDS", "1"),
                "DYEWORKS_SESSION_KEY": self.session_key,
                "PYTHONPATH": str(ROOT),
                "PYTHONUNBUFFERED": "1",
                "GRADIO_ANALYTICS_ENABLED": "False",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "MLFLOW_DISABLE_TELEMETRY": "true",
                # Threads that wait must sleep: by default they spin, and block the other processes.
                "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
                "DYEWORKS_RUN_COMMAND": shlex.join((sys.executable, "-m", "prefect.engine")),
            }
            | ({"DYEWORKS_CLOCK": str(self.clock)} if self.clock.exists() else {})
            | self.extra
        )

    @property
    def clock(self) -> Path:
        """The file of a clock that is ahead, if a demo has let days pass in this home."""
        return self.home / "clock"

    def url(self, service: str) -> str:
        """The URL of a service."""
        return f"http://127.0.0.1:{self.ports[service]}"

    def spawn(self, name: str, *command: str) -> None:
        """Start a process in its own process group; its output goes to logs/<name>.log."""
        with (self.home / "logs" / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self._write_pids()

    def run(self, *command: str) -> None:
        """Run a command until it exits; raises ServiceFailed with its output."""
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
        """Start server, workers, gateway and storefront; returns when all are healthy.

        Raises:
            ModelUnknown: the store has no model, or not one that is named.
            BasesDiffer: the models to serve have different bases.
            ServiceFailed: a command failed, or a service did not become healthy.
        """
        self.apply_models()
        installation = open_installation(Settings(store=self.environment["DYEWORKS_STORE"]))
        of_one_base(installation.models(), self.served)
        self.prepare_upload_key(installation.store)
        self.start_gateway()
        self.start_storefront()
        self.start_server()
        if self.restarted:
            self.end_orphans()
        if self.unclean:
            self.run(*_tool("dyeworks"), "outbox", "resend")
        self.start_worker()
        self.wait("gateway", "/livez")
        self.wait("storefront", "/readyz")

    def prepare_upload_key(self, store: Store) -> None:
        """Keep an API key for `dyeworks upload` in the home; another one, if the store does not know it any more."""
        keys, file = KeyRing(), self.home / "upload-key"
        keys.refresh(store)
        with contextlib.suppress(FileNotFoundError, KeyRejected):
            keys.find(file.read_text("utf-8").strip())
            return
        name = f"up-{digest(str(self.home))[:8]}"
        with contextlib.suppress(KeyUnknown):
            revoke_key(store, name)
        _write_secret(file, create_key(store, "ingest", name)[0])

    def apply_models(self) -> None:
        """Apply the configurations of `models`."""
        if self.models:
            self.run(*_tool("dyeworks"), "models", "apply", str(self.models))

    def end_orphans(self) -> None:
        """Mark runs whose processes were killed as Crashed; no process of this home is left to do so.

        A run that was being cancelled is marked as Cancelled: what crashed is restarted by its automation.
        """
        from prefect.client.orchestration import SyncPrefectClient  # noqa: PLC0415  late: it takes a second
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType  # noqa: PLC0415
        from prefect.client.schemas.objects import State, StateType  # noqa: PLC0415

        ends = {
            StateType.PENDING: StateType.CRASHED,
            StateType.RUNNING: StateType.CRASHED,
            StateType.CANCELLING: StateType.CANCELLED,
        }
        types = FlowRunFilterStateType(any_=list(ends))
        with SyncPrefectClient(f"{self.url('server')}/api") as client:
            for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=types))):
                if run.state_type:
                    message = "its process did not exist when the services started"
                    client.set_flow_run_state(run.id, State[None](type=ends[run.state_type], message=message))

    def start_server(self) -> None:
        """Start the Prefect server, and register every deployment."""
        self.start_prefect()
        self.run(*_tool("dyeworks"), "bootstrap")
        self.run(*_tool("prefect"), "--no-prompt", "deploy", "--all")

    def start_prefect(self) -> None:
        """Start the Prefect server alone."""
        address = ("--host", "127.0.0.1", "--port", str(self.ports["server"]))
        self.spawn("server", sys.executable, "-m", "deployments.serve_prefect", *address)
        self.wait("server", "/api/health")

    def start_worker(self, *pools: str) -> None:
        """Start a process worker for each of the pools; for all pools if none is named."""
        for pool in pools or ("default", "gpu"):
            self.spawn(
                f"worker-{pool}", *_tool("prefect"), "worker", "start", "--pool", pool, "--name", f"local-{pool}"
            )

    def start_gateway(self) -> None:
        """Start the gateway."""
        self._serve("gateway")

    def start_storefront(self) -> None:
        """Start the storefront."""
        self._serve("storefront", *(part for name in self.served for part in ("--model", name)))

    def start_mlflow(self) -> str:
        """Start an MLflow server, unless runs are tracked on another server; returns its URL."""
        uri = self.environment["MLFLOW_TRACKING_URI"]
        if not _is_database(uri):
            return _without_password(uri)
        # Not an argument, which every user of the machine can read: the URI may contain a password.
        self.extra |= {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.spawn("mlflow", *_tool("mlflow"), "server", "--port", str(self.ports["mlflow"]))
        return self.url("mlflow")

    def _serve(self, name: str, *options: str) -> None:
        self.spawn(name, *_tool("dyeworks"), "serve", name, "--port", str(self.ports[name]), *options)

    def wait(self, service: str, path: str) -> None:
        """Wait until a service returns 200; raises ServiceFailed with the end of its log."""
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
        """Wait until one of the services exits; returns its name."""
        while True:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    return name
            time.sleep(0.5)

    def stop(self) -> None:
        """Stop all, newest first; flow runs that are under way are killed."""
        for process in reversed(self.processes.values()):
            process.terminate()  # not its group: a worker ends its runs itself
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
        stop_leftovers(self.home)
        (self.home / "pids.json").unlink(missing_ok=True)

    def _write_pids(self) -> None:
        pids = {name: process.pid for name, process in self.processes.items()}
        (self.home / "pids.json").write_text(json.dumps({"pids": pids, "urls": {n: self.url(n) for n in self.ports}}))


def stop_leftovers(home: Path) -> list[int]:
    """Kill every process of this home that is still running, including flow runs; returns their pids."""
    mine = [pid for pid in _processes_of(home.resolve()) if pid != os.getpid()]
    for pid in mine:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return mine


def _processes_of(home: Path) -> Iterator[int]:
    """Processes started with this home, found by their environment."""
    mark = f"PREFECT_HOME={home / 'prefect'}".encode()
    for place in Path("/proc").glob("[0-9]*") if Path("/proc").exists() else ():
        with contextlib.suppress(OSError):
            if mark in (place / "environ").read_bytes().split(b"\0"):
                yield int(place.name)


def _tool(name: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).parent / name),)


def _absolute(store: str) -> str:
    """The address of a store, independent of the working directory."""
    return store if "://" in store else str(Path(store).resolve())


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _is_database(uri: str) -> bool:
    """Whether an MLflow tracking URI is a database or a file, not a server with its own UI."""
    return not uri.startswith(("http:", "https:", "databricks", "uc:"))


def _without_password(uri: str) -> str:
    scheme, found, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + found + host.rpartition("@")[2] + slash + path


def _secret(path: Path) -> str:
    """A random secret in a file readable only by its owner; generated if missing or empty."""
    if not path.exists() or not path.read_text("utf-8").strip():
        _write_secret(path, secrets.token_urlsafe(24))
    path.chmod(0o600)
    return path.read_text("utf-8").strip()


def _write_secret(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
