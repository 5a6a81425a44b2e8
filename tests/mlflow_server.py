"""MLflow's own server in a thread, on a port that stays the same when it is restarted."""

import logging
from pathlib import Path
from threading import Thread

import pytest
from mlflow.server import app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server


class Brief(WSGIRequestHandler):
    """Closes each connection, so that there are no responses after `stop`."""

    protocol_version = "HTTP/1.0"


class MlflowServer:
    """Serves the database in a folder, from `start` to `stop`."""

    def __init__(self, database: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{database}")
        monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
        monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(artifacts))
        monkeypatch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
        self.port = 0
        self.server: BaseWSGIServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.server = make_server("127.0.0.1", self.port, app, threaded=True, request_handler=Brief)
        self.port = self.server.server_port
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
