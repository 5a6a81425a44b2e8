"""The storefront's page against its API: six concurrent clients on each, in turn, on a real process."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from deployments.stack import Stack
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.bench_table import Row, row
from tests.page_client import visit

VISITORS = 6


def page(runs: int = 9) -> list[Row]:
    """Six clients of the page, and six calls of the API."""
    from tests.bench import timed  # noqa: PLC0415  bench imports this module

    with TemporaryDirectory() as folder, httpx.Client(timeout=120) as client, ThreadPoolExecutor(VISITORS) as pool:
        stack = Stack(Path(folder))
        apply_config(FolderStore(Path(folder) / "store"), adire())
        try:
            stack.start_storefront()
            stack.wait("storefront", "/readyz")
            client.base_url = httpx.URL(stack.url("storefront"))

            def call(prompt: str) -> None:
                client.post("/api/render", json={"prompt": prompt}).raise_for_status()

            def look(prompt: str) -> None:
                assert "pictures" in visit(client, prompt)

            prompts = [f"{number} large rings in adire_style" for number in range(VISITORS)]
            by_page, by_api = timed(runs, lambda: list(pool.map(look, prompts)), lambda: list(pool.map(call, prompts)))
        finally:
            stack.stop()
    return [row("six visitors of the page", "s", by_page, "six calls of the API", by_api, runs)]
