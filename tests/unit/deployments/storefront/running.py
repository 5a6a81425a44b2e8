"""A storefront with two models, one of them closed, on a real server in a thread."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from openai import OpenAI

from deployments.serve import configure
from deployments.storefront.app import create_app
from tasks.core.access.keys import create_key
from tasks.core.config.installation import Settings
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.unit.deployments.storefront.releases import wait_until

SERVES = {"steps": 1, "sizes": ["96x64"], "most_steps": 20}


@dataclass
class Shop:
    """A running storefront."""

    url: str
    folder: Path
    app: Any
    keys: dict[str, str]

    def client(self, key: str = "none", **options: Any) -> OpenAI:
        """OpenAI's client, which requires some key."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.keys.get(key, key), **options)

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the prompt log."""
        files = (self.folder / "store" / "prompts").rglob("*.jsonl.gz")
        return [json.loads(line) for f in files for line in gzip.decompress(f.read_bytes()).splitlines()]

    def line(self, request_id: str) -> dict[str, Any]:
        wait_until(lambda: any(line["request_id"] == request_id for line in self.lines()))
        return next(line for line in self.lines() if line["request_id"] == request_id)


@contextmanager
def running(folder: Path) -> Iterator[Shop]:
    """Serve; the key `old` expires after a second."""
    store = FolderStore(folder / "store")
    apply_config(store, adire(serving=SERVES))
    apply_config(store, adire(name="closed", serving=SERVES | {"api": "key", "page": False}))
    keys = {
        "visitor": create_key(store, "visitor", "shop")[0],
        "viewer": create_key(store, "viewer", "grafana")[0],
        "closed": create_key(store, "visitor", "partner", ("closed",))[0],
        "old": create_key(store, "visitor", "old", (), datetime.now(UTC) + timedelta(seconds=1))[0],
    }
    settings = Settings(
        store=str(folder / "store"),
        cache=folder / "cache",
        spool=str(folder / "spool"),
        device="cpu",
        log_seconds=0.1,
        poll_seconds=0.1,
        limit_address="",
        limit_session="",
        model_aliases="gpt-image-1=adire",
    )
    config = configure("storefront", "127.0.0.1", 0, settings)
    config.app = app = create_app(settings)
    config.factory = False
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
    yield Shop(url, folder, app, keys)
    server.should_exit = True
    thread.join(30)
