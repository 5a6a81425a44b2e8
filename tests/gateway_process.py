"""The gateway as a process of its own, which can be killed."""

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

    def __init__(self, port: int = 0, **settings: str) -> None:
        port = port or free_ports(1)[0]
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        command = [str(Path(sys.executable).parent / "dyeworks"), "serve", "gateway", "--port", str(port)]
        environment = os.environ | {f"DYEWORKS_{name.upper()}": value for name, value in settings.items()}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.client = httpx.Client(base_url=self.url, timeout=60, headers=_access(environment))
        self._wait()

    def post(self, body: dict[str, object]) -> int:
        """How many uploads of a notification are new."""
        answer = self.client.post("/hooks/s3", json=body)
        answer.raise_for_status()
        return int(answer.json()["new"])

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.client.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the gateway has ended"
            with suppress(httpx.TransportError):
                if self.client.get("/livez").is_success:
                    return
            time.sleep(0.05)
        raise AssertionError("the gateway did not start")


def _access(environment: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {environment['DYEWORKS_WEBHOOK_TOKEN']}"}


@contextmanager
def gateway(port: int = 0, **settings: str) -> Iterator[GatewayProcess]:
    """A running gateway, killed at the end of the block."""
    running = GatewayProcess(port, **settings)
    try:
        yield running
    finally:
        running.kill()
