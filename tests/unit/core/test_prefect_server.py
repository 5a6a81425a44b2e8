"""The Prefect server and its credentials: those that Prefect's own client uses, and events that are sent with them."""

import base64
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tasks.core import http
from tasks.core.config.installation import ROOT, read_prefect_environment
from tasks.core.errors import EventUndelivered, SettingError
from tasks.core.events import Event, Uploaded, make_event
from tasks.core.installation import Installation, open_installation
from tasks.core.outbox import emit, flush, replay, send_all
from tasks.core.prefect_server import PrefectServer
from tasks.core.store import FolderStore
from tests.events_server import EventsServer
from tests.local_server import LocalServer
from tests.prefect_clients import used

URL = "https://api.prefect.cloud/api/accounts/1/workspaces/2"
KEY = {"PREFECT_API_KEY": "pnu_secret"}
SECRETS = ("pnu_secret", "hunter2", base64.b64encode(b"admin:hunter2").decode())
CLOUD = f'[profiles.cloud]\nPREFECT_API_URL = "{URL}"\nPREFECT_API_KEY = "pnu_secret"\n'
LOCAL = '[profiles.own]\nPREFECT_API_URL = "http://own:4200/api"\nPREFECT_API_AUTH_STRING = "admin:hunter2"\n'
PROFILES = f'active = "cloud"\n{CLOUD}{LOCAL}'
HEADERS = '{"X-Tenant": "cloth", "user-agent": "mine", "Prefect-CSRF-Token": "mine"}'
TOML = f'profiles_path = "named.toml"\n[api]\nurl = "{URL}"\nkey = "pnu_toml"\n[client.custom_headers]\nX-A = "b"\n'

Files = dict[str, str]
CASES: dict[str, tuple[dict[str, str], Files]] = {
    "nothing": ({}, {}),
    "a URL": ({"PREFECT_API_URL": URL}, {}),
    "a URL with a slash": ({"PREFECT_API_URL": f"{URL}/"}, {}),
    "an empty URL beats a profile's": ({"PREFECT_API_URL": ""}, {".prefect/profiles.toml": PROFILES}),
    "a key": ({"PREFECT_API_URL": URL, **KEY}, {}),
    "a key in small letters": ({"prefect_api_url": URL, "prefect_api_key": "pnu_secret"}, {}),
    "an auth string": ({"PREFECT_API_URL": URL, "PREFECT_API_AUTH_STRING": "admin:hunter2:é"}, {}),
    "an auth string without a colon": ({"PREFECT_API_URL": URL, "PREFECT_API_AUTH_STRING": "hunter2"}, {}),
    "an auth string and a key": ({"PREFECT_API_URL": URL, "PREFECT_API_AUTH_STRING": "admin:hunter2", **KEY}, {}),
    "an empty auth string and a key": ({"PREFECT_API_URL": URL, "PREFECT_API_AUTH_STRING": "", **KEY}, {}),
    "headers": ({"PREFECT_API_URL": URL, "PREFECT_CLIENT_CUSTOM_HEADERS": HEADERS, **KEY}, {}),
    "headers beat a key": (
        {"PREFECT_API_URL": URL, "PREFECT_CLIENT_CUSTOM_HEADERS": '{"authorization": "Token a"}', **KEY},
        {},
    ),
    "headers beat Prefect's version": (
        {"PREFECT_API_URL": URL, "PREFECT_CLIENT_CUSTOM_HEADERS": '{"x-prefect-api-version": "0.8.0"}'},
        {},
    ),
    "headers that are no JSON": ({"PREFECT_API_URL": URL, "PREFECT_CLIENT_CUSTOM_HEADERS": "X-Tenant: a"}, {}),
    "headers that are a list": ({"PREFECT_API_URL": URL, "PREFECT_CLIENT_CUSTOM_HEADERS": '["a"]'}, {}),
    "headers with a number": ({"PREFECT_API_URL": URL, "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-A": 1}'}, {}),
    "no check of the certificate": ({"PREFECT_API_URL": URL, "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "yes"}, {}),
    "neither yes nor no": ({"PREFECT_API_URL": URL, "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "perhaps"}, {}),
    "certificates": ({"PREFECT_API_URL": URL, "PREFECT_API_SSL_CERT_FILE": "one.pem"}, {}),
    "certificates that are not there": ({"PREFECT_API_URL": URL, "PREFECT_API_SSL_CERT_FILE": "two.pem"}, {}),
    "certificates that are none": (
        {"PREFECT_API_URL": URL, "PREFECT_API_SSL_CERT_FILE": "none.pem"},
        {"none.pem": "none"},
    ),
    "the active profile": ({}, {".prefect/profiles.toml": PROFILES}),
    "another profile": ({"PREFECT_PROFILE": "own"}, {".prefect/profiles.toml": PROFILES}),
    "an unknown profile": ({"PREFECT_PROFILE": "other"}, {".prefect/profiles.toml": PROFILES}),
    "an empty name of a profile": ({"PREFECT_PROFILE": ""}, {".prefect/profiles.toml": PROFILES}),
    "no active profile": ({}, {".prefect/profiles.toml": CLOUD}),
    "an empty file of profiles": ({}, {".prefect/profiles.toml": ""}),
    "a profile of Prefect": ({"PREFECT_PROFILE": "local"}, {}),
    "a profile of Prefect's, where there is a file": ({"PREFECT_PROFILE": "local"}, {".prefect/profiles.toml": CLOUD}),
    "a home of Prefect": ({"PREFECT_HOME": "home"}, {"home/profiles.toml": PROFILES, ".prefect/profiles.toml": LOCAL}),
    "a home of Prefect without profiles": ({"PREFECT_HOME": "home", "PREFECT_PROFILE": "local"}, {}),
    "a file of profiles": (
        {"PREFECT_PROFILES_PATH": "named.toml", "PREFECT_HOME": "home"},
        {"named.toml": PROFILES, "home/profiles.toml": LOCAL},
    ),
    "a file of profiles that is not there": ({"PREFECT_PROFILES_PATH": "named.toml"}, {}),
    "the environment beats a profile": (
        {"PREFECT_API_URL": "http://other/api", "PREFECT_API_KEY": "pnu_other"},
        {".prefect/profiles.toml": PROFILES},
    ),
    "an empty key beats a profile's": ({"PREFECT_API_KEY": ""}, {".prefect/profiles.toml": PROFILES}),
    "headers of a profile": (
        {"PREFECT_PROFILE": "h"},
        {".prefect/profiles.toml": f"[profiles.h]\nPREFECT_API_URL='{URL}'\nPREFECT_CLIENT_CUSTOM_HEADERS='{HEADERS}'"},
    ),
    "a number as a key": ({}, {".prefect/profiles.toml": PROFILES.replace('"pnu_secret"', "1")}),
    "broken profiles": ({"PREFECT_API_URL": URL}, {".prefect/profiles.toml": "[profiles"}),
    "profiles of another encoding": ({"PREFECT_API_URL": URL}, {".prefect/profiles.toml": "# \xff"}),
    ".env": (
        {"PREFECT_API_KEY": "pnu_other"},
        {".env": f"# comment\nPREFECT_API_URL='{URL}'\nexport prefect_api_auth_string=admin:hunter2\nPREFECT_API_KEY"},
    ),
    "the profiles of .env": ({}, {".env": "PREFECT_PROFILES_PATH=named.toml", "named.toml": PROFILES}),
    "prefect.toml": ({}, {"prefect.toml": TOML, "named.toml": LOCAL + 'PREFECT_API_KEY="pnu_own"\n'}),
    "the profiles of prefect.toml": (
        {"PREFECT_PROFILE": "own"},
        {"prefect.toml": TOML.replace("url", "urls"), "named.toml": PROFILES},
    ),
    ".env beats prefect.toml": ({}, {"prefect.toml": TOML, ".env": "PREFECT_API_KEY=pnu_secret"}),
    "pyproject.toml": ({}, {"pyproject.toml": f'[tool.prefect.api]\nurl = "{URL}"\ntls_insecure_skip_verify = true\n'}),
    "prefect.toml beats pyproject.toml": (
        {},
        {
            "prefect.toml": TOML,
            "pyproject.toml": '[tool.prefect]\nprofiles_path = "a"\n[tool.prefect.api]\nkey = "b"\n',
        },
    ),
    "broken prefect.toml": ({"PREFECT_API_URL": URL}, {"prefect.toml": "[api"}),
}


def laid_out(folder: Path, environment: dict[str, str], files: Files) -> PrefectServer:
    """The server of a process whose home and working folder have these files."""
    (folder / "one.pem").parent.mkdir(parents=True, exist_ok=True)
    (folder / "one.pem").write_text(
        Path(certifi.where()).read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="latin-1")
    (folder / "environment.json").write_text(json.dumps(environment))
    return PrefectServer({"HOME": str(folder), **environment}, folder)


@pytest.fixture(scope="module")
def of_prefect(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The folder of each case, and what Prefect's own client uses there."""
    folders = {name: tmp_path_factory.mktemp("case") for name in CASES}
    for name, folder in folders.items():
        laid_out(folder, *CASES[name])
    line = [sys.executable, "-m", "tests.prefect_clients"]
    given = json.dumps([str(folder) for folder in folders.values()])
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path_factory.mktemp("home")), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, input=given, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    return {name: (folders[name], answer) for name, answer in zip(folders, answers, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_prefects_own_client_uses(
    name: str, of_prefect: dict[str, tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, expected = of_prefect[name]
    monkeypatch.chdir(folder)
    server = PrefectServer({"HOME": str(folder), **CASES[name][0]}, folder)
    if error := expected.get("error"):
        with pytest.raises(SettingError) as caught:
            server.connect()
        assert (error == "no URL") == str(caught.value).startswith("PREFECT_API_URL: not set, neither")
        assert not any(secret in repr(caught.value) for secret in SECRETS)
        return
    with server.connect() as connection:
        assert used(connection.client) == expected
