"""The storefront under closed loops of clients, on a real process, beside the pipeline that it serves.

The champion is an adapter with random weights for the modules that the embedded preset trains. The plain loop is one
call of an unchanged pipeline for each picture; the limit is the storefront's own renderer, called with full batches.
`python -m tests.bench_serving BASE` measures another base, for a GPU.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import torch
from peft import LoraConfig

from deployments.stack import Stack
from tasks.core.config.model import EMBEDDED
from tasks.core.config.presets import load_preset
from tasks.core.models.families import family_of
from tasks.core.models.pipeline import load_pipeline
from tasks.core.models.rendering import Renderer
from tasks.core.registry.models import apply_config
from tasks.core.registry.releases import write_release
from tasks.core.store import FolderStore
from tests.adire import NAME, adire
from tests.bench_table import Row, Table, row, show, timed
from tests.e2e.shops import MANIFEST, published
from tests.page_client import visit

CLIENTS = (1, 8, 16, 32, 128)
BATCH, STEPS, GUIDANCE, VISITORS = 16, 12, 2.0, 16
ONE_STEP = 40  # pairs of pictures of one step
UNLIMITED = {"DYEWORKS_LIMIT_KEY": "", "DYEWORKS_LIMIT_ADDRESS": "", "DYEWORKS_LIMIT_SESSION": ""}
PROMPTS = [f"{number} large rings in adire_style" for number in range(BATCH)]
Rates = dict[str, list[float]]  # pictures a second of each run, by what drew them


@dataclass
class Loop:
    """When each picture of a closed loop was complete, and how long its client waited."""

    clients: int
    ends: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    @property
    def wanted(self) -> int:
        """Pictures of a run: a round to settle, then as many as make full batches."""
        return self.clients + max(self.clients, BATCH, 4 * min(self.clients, BATCH))

    @property
    def rate(self) -> float:
        """Pictures a second after the first round."""
        return (self.wanted - self.clients) / (self.ends[self.wanted - 1] - self.ends[self.clients - 1])

    @property
    def settled(self) -> list[float]:
        """The waits after the first round."""
        return self.waits[self.clients : self.wanted]


def serving(runs: int = 3, base: str = EMBEDDED) -> list[Row]:
    """Clients of the API beside the plain loop and the limit; what is not rendering; visitors of the page."""
    with TemporaryDirectory() as folder:
        release = _adapter(base, Path(folder) / "release")
        plain, fast = _renderer(base, release, fast=False), _renderer(base, release, fast=True)
        with _storefront(Path(folder) / "home", base, release) as url:
            rates: Rates = {}
            waits: dict[str, list[float]] = {}
            for _ in range(runs):
                _measure_pipelines(rates, plain, fast)
                for clients in CLIENTS:
                    loop = asyncio.run(_closed_loop(url, clients))
                    rates.setdefault(_named(clients), []).append(loop.rate)
                    waits.setdefault(_named(clients), []).extend(loop.settled)
            show("serving", _table(rates, waits))
            over, bare = _paired_one_step(url, fast)
            page, api = _page_beside_api(url, runs)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return [
        *(
            row(f"serving, {name}", "pictures/s", medians[name], against, medians[against], runs)
            for name in medians
            if name != "plain loop"
            for against in ("plain loop", "full batches, fast")
            if name != against
        ),
        *(
            row(f"serving, {name}, {part}", "s", _quantile(found, share), "p50", _quantile(found, 0.5), runs)
            for name, found in waits.items()
            for part, share in (("p50", 0.5), ("p95", 0.95))
        ),
        row("a picture of one step by HTTP", "s", over, "the same by the renderer", bare, ONE_STEP),
        row(f"{VISITORS} visitors of the page", "s", page, f"{VISITORS} clients of the API", api, runs),
    ]


def _measure_pipelines(rates: Rates, plain: Renderer, fast: Renderer) -> None:
    """One run of the pipelines themselves, while the storefront has nothing to do."""
    works: dict[str, Callable[[], object]] = {
        "plain loop": lambda: _draw_singly(plain),
        "full batches, plain": lambda: _draw(plain, PROMPTS, 0),
        "full batches, fast": lambda: _draw(fast, PROMPTS, 0),
    }
    for name, work in works.items():
        start = time.perf_counter()
        work()
        rates.setdefault(name, []).append(BATCH / (time.perf_counter() - start))


def _draw_singly(renderer: Renderer) -> None:
    for number, prompt in enumerate(PROMPTS):
        _draw(renderer, [prompt], number)


def _draw(renderer: Renderer, prompts: list[str], seed: int, steps: int = STEPS) -> None:
    renderer.render(prompts, [seed + number for number in range(len(prompts))], steps, GUIDANCE)


def _renderer(base: str, release: Path, fast: bool) -> Renderer:
    """A renderer with the release, warm at both batch sizes."""
    renderer = Renderer(base, fast=fast)
    renderer.load(release, "release")
    renderer.activate("release")
    for prompts in (PROMPTS[:1], PROMPTS):
        _draw(renderer, prompts, 0, 1)
    return renderer


async def _closed_loop(url: str, clients: int) -> Loop:
    """Each client asks again when it has its picture; those that still wait at the end hang up."""
    loop = Loop(clients)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=httpx.Limits(max_connections=clients)) as http:
        asking = [asyncio.create_task(_ask_on(http, loop, number)) for number in range(clients)]
        done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        for task in done:
            task.result()  # an error of a client fails the run
    return loop


async def _ask_on(http: httpx.AsyncClient, loop: Loop, number: int) -> None:
    while len(loop.ends) < loop.wanted:
        start = time.perf_counter()
        await _ask(http, {"prompt": PROMPTS[number % BATCH], "seed": number})
        loop.ends.append(time.perf_counter())
        loop.waits.append(loop.ends[-1] - start)


async def _ask(http: httpx.AsyncClient, fields: dict[str, object]) -> None:
    (await http.post("/v1/images/generations", json={"model": NAME, **fields})).raise_for_status()


def _paired_one_step(url: str, renderer: Renderer) -> tuple[float, float]:
    """Median seconds of a picture of one step by HTTP, and by the renderer, in turn."""
    over, bare = [], []
    with httpx.Client(base_url=url, timeout=60) as http:
        for number in range(ONE_STEP + 1):
            body = {"model": NAME, "prompt": PROMPTS[0], "seed": number, "steps": 1}
            start = time.perf_counter()
            http.post("/v1/images/generations", json=body).raise_for_status()
            middle = time.perf_counter()
            _draw(renderer, PROMPTS[:1], number, 1)
            over.append(middle - start)
            bare.append(time.perf_counter() - middle)
    return statistics.median(over[1:]), statistics.median(bare[1:])


def _page_beside_api(url: str, runs: int) -> tuple[float, float]:
    """Median seconds until all visitors of the page, and as many clients of the API, have their pictures."""
    with httpx.Client(base_url=url, timeout=300) as http, ThreadPoolExecutor(VISITORS) as pool:

        def call(prompt: str) -> None:
            http.post("/v1/images/generations", json={"model": NAME, "prompt": prompt}).raise_for_status()

        def look(prompt: str) -> None:
            _look(http, prompt)

        page, api = timed(runs, lambda: list(pool.map(look, PROMPTS)), lambda: list(pool.map(call, PROMPTS)))
    return page, api


def _look(http: httpx.Client, prompt: str) -> None:
    """One picture by the page, as a new visitor."""
    assert "pictures" in visit(http, prompt)


@contextmanager
def _storefront(home: Path, base: str, release: Path) -> Iterator[str]:
    """The address of a storefront that serves the release."""
    store = FolderStore(home / "store")
    apply_config(store, adire(base=base, serving={"steps": STEPS, "guidance": GUIDANCE, "safety": False}))
    published(store, write_release(store, NAME, release, MANIFEST), 1, NAME)
    stack = Stack(home, {**UNLIMITED, "DYEWORKS_RENDER_BATCH": str(BATCH)})
    try:
        stack.start_storefront()
        stack.wait("storefront", "/readyz")
        yield stack.url("storefront")
    finally:
        stack.stop()


def _adapter(base: str, folder: Path) -> Path:
    """A LoRA with small random weights, as the embedded preset trains it, or for another base the founding one."""
    spec, family = load_preset(EMBEDDED if base == EMBEDDED else "founding").train, family_of(load_pipeline(base))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        family.pipe.unet.add_adapter(LoraConfig(r=spec.rank, target_modules=list(spec.targets)))
        for name, parameter in family.pipe.unet.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.03)
    folder.mkdir()
    family.save(folder)
    return folder


def _named(clients: int) -> str:
    return f"{clients} client{'s' if clients > 1 else ''}"


def _quantile(waits: list[float], share: float) -> float:
    return sorted(waits)[min(int(share * len(waits)), len(waits) - 1)]


def _table(rates: Rates, waits: dict[str, list[float]]) -> Table:
    """Pictures a second as medians, and the medians of their ratios within a run."""
    return [
        {
            "": name,
            "pictures/s": statistics.median(found),
            "x plain loop": _ratio(found, rates["plain loop"]),
            "x limit": _ratio(found, rates["full batches, fast"]),
            "p50 s": _quantile(waits[name], 0.5) if name in waits else "",
            "p95 s": _quantile(waits[name], 0.95) if name in waits else "",
        }
        for name, found in rates.items()
    ]


def _ratio(some: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(some, others, strict=True))


if __name__ == "__main__":
    serving(base=sys.argv[1])
