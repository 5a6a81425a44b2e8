"""moto's server, which speaks the S3 protocol, and what points clients to it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import boto3
import pytest

BUCKET = "dyeworks"


@contextmanager
def s3_server() -> Iterator[str]:
    """A running server with a bucket, which the environment points to; the bucket's name."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - slow, and spawned processes import this module

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # logging each request is slow
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    serialise(server._server)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        patch.setenv("AWS_ACCESS_KEY_ID", "dummy")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "dummy")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        connect().create_bucket(Bucket=BUCKET)
        yield BUCKET
    server.stop()


def connect() -> Any:
    return boto3.session.Session().client("s3")


def serialise(server: Any) -> None:
    """Let one request in at a time: S3 checks a condition and writes in one step, moto's threads don't."""
    app, lock = server.app, Lock()

    def one_at_a_time(environ: Any, start_response: Any) -> Any:
        with lock:
            return app(environ, start_response)

    server.app = one_at_a_time
