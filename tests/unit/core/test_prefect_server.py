"""The Prefect server and its credentials: those that Prefect's own client uses, and events that are sent with them."""

import base64
import json
import ssl
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
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
from tasks.core.config.installation import ROOT
from tasks.core.errors import EventUndelivered, SettingError
from tasks.core.events import Declined, Event, make_event
from tasks.core.installation import open_installation
from tasks.core.outbox import emit, flush, replay
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


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)


BEARER, BASIC = "Bearer pnu_secret", f"Basic {base64.b64encode(b'admin:hunter2').decode()}"


def declined() -> Event:
    return make_event("dyeworks.retrain.declined", "adire", Declined(reason="too soon", decision="d1"))


def undelivered(store: FolderStore, server: PrefectServer) -> str:
    """The message of an event that stays queued; nothing that is written or logged about it shows a secret."""
    before = len(list(store.list("outbox/")))
    with pytest.raises(EventUndelivered) as caught:
        emit(store, server, declined())
    assert len(list(store.list("outbox/"))) == before + 1
    stored = "".join(store.read(key).decode() for key in store.list("outbox/"))
    trace = "".join(traceback.format_exception(caught.value))
    assert not any(secret in text for secret in SECRETS for text in (repr(server), trace, stored))
    return str(caught.value)


def test_key_of_the_environment_is_sent(events: EventsServer, folder: FolderStore) -> None:
    events.authorization = BEARER
    emit(folder, PrefectServer({"PREFECT_API_URL": events.url, **KEY}), declined())
    assert (len(events.events), events.headers[0]["X-PREFECT-API-VERSION"]) == (1, "0.8.4")


def test_key_of_the_active_profile_is_sent_by_an_opened_installation(
    events: EventsServer, folder: FolderStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    events.authorization = BEARER
    monkeypatch.delenv("PREFECT_API_URL")
    (tmp_path / "profiles.toml").write_text(PROFILES.replace(URL, events.url))
    opened = open_installation()
    emit(opened.store, opened.server, declined())
    replay(opened.store, opened.server, 1)
    assert len(events.events) == 2


def test_auth_string_is_sent(events: EventsServer, folder: FolderStore) -> None:
    events.authorization = BASIC
    environment = {"PREFECT_API_URL": events.url, "PREFECT_API_AUTH_STRING": "admin:hunter2"}
    emit(folder, PrefectServer(environment), declined())
    assert len(events.events) == 1


def test_custom_headers_are_sent(events: EventsServer, folder: FolderStore) -> None:
    events.authorization = "Token of a proxy"
    headers = '{"X-Tenant": "cloth", "Authorization": "Token of a proxy"}'
    environment = {"PREFECT_API_URL": events.url, "PREFECT_CLIENT_CUSTOM_HEADERS": headers, **KEY}
    emit(folder, PrefectServer(environment), declined())
    assert events.headers[0]["X-Tenant"] == "cloth"


def test_rejected_credentials_leave_the_event_queued_and_are_named(
    events: EventsServer, folder: FolderStore, tmp_path: Path
) -> None:
    events.authorization = "Bearer another"
    environment = {"PREFECT_API_URL": events.url}
    message = undelivered(folder, PrefectServer(environment | KEY))
    assert "the answer was 401: ; check PREFECT_API_KEY of the environment" in message
    message = undelivered(folder, PrefectServer(environment | {"PREFECT_API_AUTH_STRING": "admin:hunter2"}))
    assert "check PREFECT_API_AUTH_STRING of the environment" in message
    message = undelivered(
        folder, PrefectServer(environment | {"PREFECT_CLIENT_CUSTOM_HEADERS": '{"authorization": "hunter2"}'} | KEY)
    )
    assert "check PREFECT_CLIENT_CUSTOM_HEADERS of the environment" in message
    message = undelivered(folder, PrefectServer(environment))
    assert "no credentials were sent: set PREFECT_API_KEY for Prefect Cloud, PREFECT_API_AUTH_STRING for" in message
    path = tmp_path / "profiles.toml"
    path.write_text(PROFILES.replace(URL, events.url))
    message = undelivered(folder, PrefectServer({"PREFECT_PROFILES_PATH": str(path)}))
    assert f"check PREFECT_API_KEY of profile 'cloud' of {path}" in message
    events.authorization = BEARER
    assert flush(folder, PrefectServer(environment | KEY)) == 5, "nothing was lost"


@pytest.mark.parametrize(
    ("environment", "files", "message"),
    [
        ({}, {}, "PREFECT_API_URL: not set, neither in the environment nor in profile 'ephemeral' of Prefect"),
        (
            {"PREFECT_PROFILE": "dye"},
            {".prefect/profiles.toml": PROFILES},
            "PREFECT_API_URL: not set, neither in the environment nor in profile 'dye' of ",
        ),
        (
            {"PREFECT_API_URL": URL, **KEY},
            {".prefect/profiles.toml": "[profiles"},
            "profiles.toml: cannot be read (Expected ']' at the end of a table declaration",
        ),
        (
            {"PREFECT_API_URL": URL, "PREFECT_CLIENT_CUSTOM_HEADERS": "X-Key: hunter2"},
            {},
            "PREFECT_CLIENT_CUSTOM_HEADERS: cannot be used (the environment): no JSON object of names and values",
        ),
        (
            {"PREFECT_API_URL": URL, "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Key": "hunter2\\n"}'},
            {},
            "PREFECT_CLIENT_CUSTOM_HEADERS: cannot be used (the environment: X-Key): no HTTP header can carry it",
        ),
        (
            {"PREFECT_API_URL": URL, "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X Key": "hunter2"}'},
            {},
            "PREFECT_CLIENT_CUSTOM_HEADERS: cannot be used (the environment): it has a name that no HTTP header can",
        ),
        (
            {"PREFECT_API_URL": URL, "PREFECT_API_KEY": "pnu_secret\n"},
            {},
            "PREFECT_API_KEY: cannot be used (the environment): no HTTP header can carry it: it has a line break",
        ),
        (
            {},
            {".prefect/profiles.toml": PROFILES.replace('"pnu_secret"', "1")},
            "PREFECT_API_KEY: cannot be used (profile 'cloud' of ",
        ),
        (
            {"PREFECT_API_URL": URL, "PREFECT_API_SSL_CERT_FILE": "/nowhere.pem"},
            {},
            "PREFECT_API_SSL_CERT_FILE: /nowhere.pem is no readable file of certificates (No such file or directory)",
        ),
        ({"PREFECT_API_URL": "http://admin:hunter2@host:port/api"}, {}, "PREFECT_API_URL: it is no valid URL"),
        ({"PREFECT_API_URL": "prefect.example.org/api"}, {}, "PREFECT_API_URL: it is no valid URL"),
    ],
)
def test_faulty_setting_is_named_and_the_event_stays_queued(
    environment: dict[str, str], files: Files, message: str, folder: FolderStore, tmp_path: Path
) -> None:
    assert message in undelivered(folder, laid_out(tmp_path / "home", environment, files))


def test_a_server_that_wants_a_csrf_token_gets_it(events: EventsServer, folder: FolderStore) -> None:
    events.csrf_token = "token"
    emit(folder, events.prefect, declined())
    emit(folder, events.prefect, declined())
    assert len(events.events) == 2


def test_the_proxy_of_the_environment_is_used(
    events: EventsServer, folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", events.address)
    monkeypatch.delenv("NO_PROXY", raising=False)
    emit(folder, PrefectServer({"PREFECT_API_URL": "http://prefect.invalid/api"}), declined())
    assert events.paths == ["http://prefect.invalid/api/events"]


@pytest.fixture
def redirecting(events: EventsServer) -> Iterator[LocalServer]:
    """A server that redirects what is below /moved and /seen to the events server, the latter as a GET."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(308 if self.path.startswith("/moved") else 303)
            self.send_header("Location", f"{events.url}/events")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = LocalServer(Handler)
    server.start()
    yield server
    server.stop()


def test_a_redirect_is_followed_only_as_a_post(
    redirecting: LocalServer, events: EventsServer, folder: FolderStore
) -> None:
    emit(folder, PrefectServer({"PREFECT_API_URL": f"{redirecting.address}/moved"}), declined())
    assert len(events.events) == 1
    events.csrf_token = "any"  # so that a GET is answered 200
    message = undelivered(folder, PrefectServer({"PREFECT_API_URL": f"{redirecting.address}/seen"}))
    assert f"PREFECT_API_URL is redirected to {events.url}/events" in message


@contextmanager
def with_tls(folder: Path) -> Iterator[tuple[EventsServer, Path]]:
    """An events server with a certificate of its own, and that certificate's file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    built = built.add_extension(address, critical=False)
    pem, secret = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem, secret)
    server = EventsServer()
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    server.start()
    yield server, pem
    server.stop()


def test_the_certificate_is_checked_as_configured(folder: FolderStore, tmp_path: Path) -> None:
    with with_tls(tmp_path) as (server, pem):
        environment = {"PREFECT_API_URL": server.url.replace("http:", "https:")}
        assert "CERTIFICATE_VERIFY_FAILED" in undelivered(folder, PrefectServer(environment))
        for setting in ({"PREFECT_API_SSL_CERT_FILE": str(pem)}, {"PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "1"}):
            emit(folder, PrefectServer(environment | setting), declined())
        emit(folder, PrefectServer(environment | {"SSL_CERT_FILE": str(pem)}), declined())
        assert len(server.events) == 4
