"""A storefront process of three models under load, and all that happens to it meanwhile."""

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from deployments.stack import Stack
from tasks.core.models.identity import WEIGHTS
from tasks.core.registry.models import apply_config
from tasks.core.registry.releases import prefix, write_release
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.e2e.crowd import SIZES, Answer, Crowd, body, burst, hang_up
from tests.e2e.shops import MANIFEST, another_lora, published, random_lora, wait_for

MODELS = ("adire", "indigo", "kampala")
UNLIMITED = {"DYEWORKS_LIMIT_ADDRESS": "", "DYEWORKS_LIMIT_SESSION": "", "DYEWORKS_TRUSTED_ADDRESSES": "127.0.0.1"}
QUICK = {"DYEWORKS_POLL_SECONDS": "0.2", "DYEWORKS_LOG_SECONDS": "0.2"}
DAMAGES = ("bytes", "not finite", "too large")  # ways in which a release is broken
DISK = "16m"


@dataclass(frozen=True)
class Plan:
    """What happens in so many seconds at least; those of `away` are without the store."""

    seconds: float
    warm_up: float
    away: float
    switches: int = 20
    broken: int = 5
    hang_ups: int = 200
    burst: int = 2000


@dataclass
class Watch:
    """What the storefront said of itself, each with the time: statuses of /readyz, resident bytes by /metrics."""

    url: str
    ready: list[tuple[float, int, str]] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    warm: float = 0.0  # resident bytes after the warm-up
    settled: float = 0.0  # and after the burst
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Look until it is stopped."""
        while not self.stop.wait(0.25):
            status, text = self._get("/readyz")
            self.ready.append((time.monotonic(), status, text))
            if found := re.search(r"^process_resident_memory_bytes (\S+)", self._get("/metrics")[1], re.M):
                self.memory.append((time.monotonic(), float(found[1])))

    def _get(self, path: str) -> tuple[int, str]:
        try:
            got = httpx.get(self.url + path, timeout=60)
        except httpx.HTTPError as error:
            return 0, repr(error)
        return got.status_code, got.text


class Storm:
    """The storefront, what is published meanwhile, and what its clients were told."""

    def __init__(self, home: Path, disk: Path, unfillable: str = "") -> None:
        home.mkdir()
        self.store_link, self.real = home / "store", home / "real-store"
        self.real.mkdir()
        self.store_link.symlink_to(self.real)  # is replaced in one step when the store goes
        places = {"STORE": self.store_link, "SPOOL": disk / "spool", "CACHE": disk / "cache"}
        extra = {f"DYEWORKS_{name}": str(place) for name, place in places.items()}
        self.stack = Stack(home, UNLIMITED | QUICK | extra | {"GRADIO_TEMP_DIR": str(home / "gradio")})
        self.store, self.disk, self.unfillable = FolderStore(self.store_link), disk, unfillable
        for name in MODELS:
            apply_config(self.store, adire(name=name, serving={"steps": 2, "sizes": [SIZES[1]]}))
        (home / "loras").mkdir()
        (home / "first").mkdir()
        self.loras, self.first = home / "loras", random_lora(home / "first")
        self.releases: dict[str, list[str]] = {name: [] for name in MODELS}  # in the order of generations
        self.broken: set[str] = set()
        self.answers: list[Answer] = []
        self.burst_answers: list[Answer] = []
        self.away: list[tuple[float, float]] = []  # from when till when
        self.full: list[tuple[float, float]] = []
        self.said_of_disk = ""  # when it was full
        self.watch = Watch(self.url)

    @property
    def url(self) -> str:
        """Where the storefront listens."""
        return self.stack.url("storefront")

    def start(self) -> None:
        """Start the storefront, and wait until it serves all models."""
        self.stack.start_storefront()
        self.stack.wait("storefront", "/readyz")
        wait_for(lambda: all(self.health(name)["status"] != "unavailable" for name in MODELS), "all models are served")

    def names(self, random: Random) -> str:
        """The name of a model as a client may give it: mostly its champion."""
        model, kind = random.choice(MODELS), random.random()
        if kind < 0.7:
            return model
        return f"{model}-base" if kind < 0.75 else f"{model}@{random.randint(1, len(self.releases[model]))}"

    def is_broken(self, name: str) -> bool:
        """Whether a name is that of a broken generation."""
        model, _, generation = name.partition("@")
        return bool(generation) and self.releases[model][int(generation) - 1] in self.broken

    def was_away(self, when: float) -> bool:
        """Whether the store was away then, or shortly before."""
        return any(start < when < end + 10 for start, end in self.away)

    def publish(self, model: str, damage: str = "") -> str:
        """Publish a new release, damaged in some way; returns its name."""
        number = sum(map(len, self.releases.values()))
        scale = {"not finite": float("nan"), "too large": 1e19}.get(damage, 1.0)
        folder = another_lora(self.first, self.loras / str(number), number, scale)
        release = write_release(self.store, model, folder, MANIFEST.model_copy(update={"training": f"t{number}"}))
        if damage == "bytes":
            key = prefix(model, release) + WEIGHTS
            self.store.write(key, self.store.read(key)[:-1] + b"x")
        if damage:
            self.broken.add(release)
        published(self.store, release, len(self.releases[model]) + 1, model)
        self.releases[model].append(release)
        return release

    def switch(self, model: str) -> None:
        """Publish a release, and wait until it is served."""
        release = self.publish(model)
        wait_for(lambda: self.health(model).get("release") == release, f"{release} of {model} is served")

    def break_release(self, model: str, damage: str) -> None:
        """Publish a broken release, and wait until it is rejected; the old one is still served."""
        before = self.health(model)["release"]
        self.publish(model, damage)
        said = f"generation {len(self.releases[model])} is rejected"
        wait_for(lambda: said in self.reason(model), f"{damage}: {said}")
        assert self.health(model)["release"] == before

    def reason(self, model: str) -> str:
        """What /readyz says is wrong with a model."""
        return str(self.health(model).get("reason", ""))

    def health(self, model: str) -> dict[str, Any]:
        """What /readyz says about a model; empty if it cannot be asked now."""
        with suppress(httpx.HTTPError):
            if (got := httpx.get(f"{self.url}/readyz", timeout=60)).status_code == 200:
                return dict(got.json()["models"][model])
        return {}

    @contextmanager
    def store_away(self) -> Iterator[None]:
        """Without the store's folder: a plain file is there instead."""
        start, spare = time.monotonic(), self.store_link.with_name("spare")
        spare.write_text("no folder")
        spare.replace(self.store_link)
        try:
            yield
        finally:
            spare.symlink_to(self.real)
            spare.replace(self.store_link)
            self.away.append((start, time.monotonic()))

    @contextmanager
    def disk_full(self) -> Iterator[None]:
        """Without space on the disk of the spool and of the cache."""
        start, freed = time.monotonic(), threading.Event()
        self.fill_disk()
        filler = threading.Thread(target=self._keep_full, args=(freed,))
        filler.start()
        try:
            yield
        finally:
            freed.set()
            filler.join()
            (self.disk / "ballast").unlink(missing_ok=True)
            self.full.append((start, time.monotonic()))

    def _keep_full(self, freed: threading.Event) -> None:
        """Lines that are stored leave the disk, and make room."""
        while not freed.wait(0.02):
            self.fill_disk()

    def fill_disk(self) -> None:
        """Fill what space there is."""
        with suppress(OSError), (self.disk / "ballast").open("ab", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass

    def burst(self, number: int) -> None:
        """So many requests at once."""
        random = Random("burst")
        bodies = [body(random, random.choice(MODELS), 1) | {"size": SIZES[1], "steps": 1} for _ in range(number)]
        self.burst_answers = burst(self.stack.ports["storefront"], bodies)
        self.answers += self.burst_answers

    def hang_up(self, number: int, over: float) -> None:
        """So many clients that hang up, within some seconds: in the middle of the request, or while they wait."""
        random, port = Random("hang up"), self.stack.ports["storefront"]

        def one(_: int) -> None:
            part, wait = random.choice([0.1, 0.8, 1.0, 1.0]), random.choice([0.0, 0.1, 0.5, 2.0])
            with suppress(OSError):  # a server that closes first is as good
                hang_up(port, body(random, random.choice(MODELS)), part, wait)
            time.sleep(8 * over / number)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(number)))


@contextmanager
def small_disk(place: Path) -> Iterator[str]:
    """Mount a small tmpfs at a folder; yields why that is not possible, empty if it was."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        problem = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        problem = str(error)
    try:
        yield problem
    finally:
        if not problem:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def run(storm: Storm, plan: Plan) -> None:
    """All that the plan says, under the load of a crowd; its answers are the storm's afterwards."""
    crowd, watcher = Crowd(storm.url, storm.names), threading.Thread(target=storm.watch.run)
    rude = threading.Thread(target=storm.hang_up, args=(plan.hang_ups, plan.seconds / 2))
    watcher.start()
    try:
        time.sleep(plan.warm_up)
        storm.watch.warm = storm.watch.memory[-1][1]
        rude.start()
        start, pause = time.monotonic(), (plan.seconds - plan.warm_up - 4 * plan.away) / (plan.switches + plan.broken)
        _publish(storm, range(plan.switches // 2), plan, max(pause, 0))
        with storm.store_away():
            wait_for(lambda: "the store cannot be read" in storm.reason(MODELS[0]), "it is missed")
            time.sleep(plan.away)
        if not storm.unfillable:
            _fill(storm, plan.away)
        storm.burst(plan.burst)
        time.sleep(plan.away)
        storm.watch.settled = storm.watch.memory[-1][1]
        _publish(storm, range(plan.switches // 2, plan.switches), plan, max(pause, 0))
        rude.join()
        time.sleep(max(0.0, start + plan.seconds - plan.warm_up - time.monotonic()))
    finally:
        storm.answers += crowd.leave()
        storm.watch.stop.set()
        watcher.join()


def _publish(storm: Storm, numbers: range, plan: Plan, pause: float) -> None:
    """Switch, with a broken release now and then."""
    every = plan.switches // plan.broken
    for number in numbers:
        storm.switch(MODELS[number % len(MODELS)])
        time.sleep(pause)
        if number % every == every - 1:
            storm.break_release(MODELS[number // every % len(MODELS)], DAMAGES[number // every % len(DAMAGES)])
            time.sleep(pause)


def _fill(storm: Storm, seconds: float) -> None:
    """Fill the disk; then the store goes too, so that lines are held in memory, and a release cannot be kept."""
    with storm.disk_full():
        with storm.store_away():
            wait_for(lambda: "only in memory" in storm.reason(MODELS[0]), "it says what is in memory")
            storm.said_of_disk = storm.reason(MODELS[0])
            time.sleep(seconds)
        release = storm.publish(MODELS[0])
        time.sleep(2)  # in which it is pending, unless it has taken the room that stored lines have left
    wait_for(lambda: storm.health(MODELS[0]).get("release") == release, "the release is served once there is space")
