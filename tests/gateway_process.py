"""The gateway as a process of its own, which can be killed and started again."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.s3_server import free_ports

SECONDS = 120  # for a start


class GatewayProcess:
    """A running gateway with the settings of the environment and these."""

    def __init__(self, **settings: str) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.command = [str(Path(sys.executable).parent / "dyeworks"), "serve", "gateway", "--port", str(port)]
        self.environment = os.environ | {f"DYEWORKS_{name.upper()}": value for name, value in settings.items()}
        self.token = self.environment["DYEWORKS_WEBHOOK_TOKEN"]
        self.client = httpx.Client(base_url=self.url, timeout=60, headers={"Authorization": f"Bearer {self.token}"})
        self.start()

    def post(self, body: dict[str, object]) -> int:
        """How many uploads of a notification are new."""
        answer = self.client.post("/hooks/s3", json=body)
        answer.raise_for_status()
        return int(answer.json()["new"])

    def start(self) -> None:
        """Start it at the same address as before; returns when it answers."""
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(self.command, env=self.environment, stdout=quiet, stderr=quiet)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the gateway has ended"
            with suppress(httpx.TransportError):
                if self.client.get("/livez").is_success:
                    return
            time.sleep(0.05)
        raise AssertionError("the gateway did not start")

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self.process.kill()
        self.process.wait()


@contextmanager
def gateway(**settings: str) -> Iterator[GatewayProcess]:
    """A running gateway, killed at the end of the block."""
    running = GatewayProcess(**settings)
    try:
        yield running
    finally:
        running.kill()
        running.client.close()
