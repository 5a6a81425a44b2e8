"""`dyeworks upload` against a gateway process: progress, summary, both killed in the middle and resumed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.cli.app import run
from deployments.cli.upload import Destination, find_destination
from tasks.core.config.installation import Settings
from tasks.core.errors import SettingError
from tasks.core.store import FolderStore
from tests.gateway_process import GatewayProcess, gateway
from tests.unit.deployments.gateway.running import prepare, wait_until

DYEWORKS = str(Path(sys.executable).with_name("dyeworks"))
COUNT = 400


@pytest.fixture
def keys(folder: FolderStore) -> dict[str, str]:
    return prepare(folder)


@pytest.fixture
def process(keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayProcess]:
    """A gateway to which the environment points, with a key."""
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", "a-long-token")
    monkeypatch.setenv("DYEWORKS_UPLOAD_KEY", keys["ingest"])
    with gateway() as found:
        monkeypatch.setenv("DYEWORKS_GATEWAY_URL", found.url)
        yield found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    place.mkdir()
    for number in range(COUNT):
        (place / f"{number:03}.png").write_bytes(f"picture {number}".encode() * 1000)
    (place / "clip.mov").write_bytes(b"film")
    return place


def started(photos: Path) -> "subprocess.Popen[str]":
    # what a shell starts in the background ignores the signal, and so do its children
    line = ["env", "--default-signal=INT", DYEWORKS, "upload", str(photos), "--dataset", "adire"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stored(folder: FolderStore) -> list[str]:
    return [key.removeprefix("uploads/adire/") for key in folder.list("uploads/adire/")]


def arrived(tmp_path: Path) -> list[str]:
    """The keys in the outbox, without those that end an upload."""
    with sqlite3.connect(tmp_path / "outbox.db") as database:
        return sorted(key for (key,) in database.execute("SELECT key FROM dyeworks_arrivals WHERE NOT ready"))


def names() -> list[str]:
    return [f"{number:03}.png" for number in range(COUNT)]


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_was_stopped_goes_on_where_it_was(
    how: signal.Signals, photos: Path, folder: FolderStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with started(photos) as command:
        wait_until(lambda: len(stored(folder)) > 5)
        command.send_signal(how)
        _, problem = command.communicate(timeout=60)
    before = len(stored(folder))
    assert before < COUNT
    if how == signal.SIGINT:
        assert (command.returncode, problem) == (
            130,
            "stopped; run the same command again: what is there is not sent again\n",
        )
    assert run(["upload", str(photos), "--dataset", "adire"]) == 0
    remark, what, following = capsys.readouterr().out.splitlines()
    assert remark == "1 file of other kinds left out: 1 .mov"
    assert what.startswith(f"{COUNT - before} files sent to dataset adire (")
    assert what.endswith(f"{before} there before")
    assert following.startswith("the ingest starts now: watch ingest-upload on the Prefect server")
    assert stored(folder) == names()
    assert sorted(arrived(tmp_path)) == names()


def test_a_gateway_that_is_killed_in_the_middle_gets_the_rest(
    process: GatewayProcess, photos: Path, folder: FolderStore, tmp_path: Path
) -> None:
    with started(photos) as command:
        wait_until(lambda: len(stored(folder)) > 5)
        process.kill()
        assert len(stored(folder)) < COUNT
        process.start()
        output, problem = command.communicate(timeout=120)
    assert command.returncode == 0, problem
    assert "trying again: " in problem
    assert f"{COUNT} files sent to dataset adire" in output
    assert stored(folder) == names()
    assert arrived(tmp_path) == names()


@pytest.mark.usefixtures("process")
def test_wrong_uploads_end_in_one_line(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["upload", str(photos), "--dataset", "silk"]) == 1
    assert "no model subscribes to a dataset 'silk'; there are adire, lace" in capsys.readouterr().err
    assert run(["upload", str(photos)]) == 1
    assert "name a dataset with --dataset; the key's are: adire, lace" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(["upload", str(tmp_path / "empty")]) == 1
    assert "holds no pictures or captions that an ingest would take" in capsys.readouterr().err
    assert run(["upload", str(photos / "clip.mov")]) == 1
    assert "the archive is refused: it is not a whole zip file" in capsys.readouterr().err
    assert run(["upload", str(tmp_path / "nothing")]) == 2


def ended(tmp_path: Path) -> int:
    """How many uploads were said to be whole."""
    with sqlite3.connect(tmp_path / "outbox.db") as database:
        (count,) = database.execute("SELECT count(*) FROM dyeworks_arrivals WHERE ready").fetchone()
    return int(count)


@pytest.mark.usefixtures("process")
def test_an_upload_of_which_files_were_refused_is_not_ended(
    folder: FolderStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "photos"
    place.mkdir()
    (place / "a.png").write_bytes(b"one")
    (place / "large.png").write_bytes(bytes(100 * 2**20 + 1))
    assert run(["upload", str(place), "--dataset", "adire"]) == 1
    assert (stored(folder), ended(tmp_path)) == (["a.png"], 0)
    _, refused, following = capsys.readouterr().out.splitlines()
    assert refused.endswith("bytes that are taken: large.png")
    assert following.startswith("the ingest was not started: correct these files, or move them away, and run")
    assert following.endswith("; else what was sent is ingested when no files have come for a while")
    (place / "large.png").unlink()
    assert run(["upload", str(place), "--dataset", "adire"]) == 0
    assert ended(tmp_path) == 1


@pytest.mark.parametrize("name", ["../x", "a/b", "Adire", "a b", "a" * 41, "adire\n", ".", "%2e"])
def test_a_name_that_no_dataset_has_is_refused_before_anything_is_sent(
    name: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["upload", str(photos), "--dataset", name, "--url", "http://127.0.0.1:9", "--home", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("dyeworks: --dataset: ")


def home(tmp_path: Path, key: str = "dyw_home") -> Path:
    (tmp_path / "upload-key").write_text(f"{key}\n")
    (tmp_path / "pids.json").write_text(json.dumps({"pids": {}, "urls": {"gateway": "http://127.0.0.1:9"}}))
    return tmp_path


def test_address_and_key_are_those_of_the_home(tmp_path: Path) -> None:
    pages = {"gateway": "http://127.0.0.1:9"}
    expected = Destination("http://127.0.0.1:9", "dyw_home", pages)
    assert find_destination(Settings(), "", home(tmp_path)) == expected
    assert find_destination(Settings(), "http://127.0.0.1:9/", home(tmp_path)) == expected


def test_the_key_of_the_home_is_sent_to_no_other_gateway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingError, match="DYEWORKS_UPLOAD_KEY"):
        find_destination(Settings(), "https://example.org", home(tmp_path))
    with pytest.raises(SettingError, match="DYEWORKS_UPLOAD_KEY"):
        find_destination(Settings(gateway_url="http://127.0.0.1:10"), "", home(tmp_path))
    settings = Settings.model_validate({"gateway_url": "http://example.org", "upload_key": "dyw_own"})
    assert find_destination(settings, "", home(tmp_path)) == Destination("http://example.org", "dyw_own", {})
    assert "is not https" in capsys.readouterr().err


def test_a_home_without_running_services_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError,
        match=r"no `dyeworks up` runs with the home .*, or it is just starting: wait, set it, or use --url",
    ):
        find_destination(Settings(), "", tmp_path)
    (tmp_path / "pids.json").write_text("")
    with pytest.raises(SettingError, match="'ftp://a' is no http address"):
        find_destination(Settings(), "ftp://a", tmp_path)


@pytest.mark.parametrize("note", ["{}", "[1]", '{"urls": 5}', '{"urls": {"gateway": 5}}', '{"urls": ["ab"]}'])
def test_a_damaged_note_of_running_services_names_none(note: str, tmp_path: Path) -> None:
    (tmp_path / "pids.json").write_text(note)
    with pytest.raises(SettingError, match="no `dyeworks up` runs"):
        find_destination(Settings(), "", tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        *("http://[", "http://127.0.0.1:99999", "http://127.0.0.1:0", "http://h:x", "http:///x", "http://a b"),
        *("http://a..b", f"http://{'a' * 64}.org", "http://h?key=x", "http://h#x", "h:80", "http://h\x00"),
    ],
)
def test_an_address_that_cannot_be_one_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"DYEWORKS_GATEWAY_URL: .* is no http address: set it, or use --url"
    ) as found:
        find_destination(Settings.model_validate({"upload_key": "dyw_own"}), url, tmp_path)
    assert repr(url) in str(found.value)


@pytest.mark.parametrize("url", ["http://u:pass@h", "https://pass@h", "http://u:pass@h:99999", "http://u:pass@a..b"])
def test_an_address_with_a_password_is_refused_and_not_shown(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="DYEWORKS_GATEWAY_URL") as found:
        find_destination(Settings.model_validate({"upload_key": "dyw_own"}), url, tmp_path)
    assert "pass@" not in str(found.value)


@pytest.mark.parametrize("key", ["dyw_ingest_SECRET\r\n", " dyw_ingest_SECRET\t"])
def test_blanks_around_a_key_are_none_of_it(key: str, tmp_path: Path) -> None:
    settings = Settings.model_validate({"upload_key": key})
    assert find_destination(settings, "https://example.org", tmp_path).key == "dyw_ingest_SECRET"


@pytest.mark.parametrize("odd", ["ä", "\r", " ", "\x00", "\n", "\x7f", "\u200b"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(odd: str, tmp_path: Path) -> None:
    settings = Settings.model_validate({"upload_key": f"dyw_ingest_SECRET{odd}SECRET"})
    with pytest.raises(SettingError, match="DYEWORKS_UPLOAD_KEY: the key has blanks or characters") as found:
        find_destination(settings, "https://example.org", tmp_path)
    assert "SECRET" not in str(found.value)
    home(tmp_path, f"dyw_ingest_SECRET{odd}SECRET")
    with pytest.raises(SettingError, match="the key has blanks or characters"):
        find_destination(Settings(), "", tmp_path)


def test_lines_replace_the_bar_without_a_terminal(
    process: GatewayProcess, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deployments.cli.upload.LINE_SECONDS", 0.0)
    assert run(["upload", str(photos), "--dataset", "adire", "--url", process.url, "--no-ready"]) == 0
    found = capsys.readouterr()
    assert f" of {COUNT} files, " in found.err.splitlines()[0]
    assert "the ingest starts when no files have come for a while, or once a file _READY does" in found.out


def test_the_bar_is_shown_on_a_terminal(process: GatewayProcess, photos: Path) -> None:
    leader, follower = os.openpty()
    command = [DYEWORKS, "upload", str(photos), "--dataset", "adire"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=follower, env=os.environ | {"TERM": "xterm"}
    ) as up:
        os.close(follower)
        shown = b""
        try:
            while part := os.read(leader, 10_000):
                shown += part
        except OSError:  # as Linux says that the other end is closed
            pass
    os.close(leader)
    assert up.returncode == 0
    assert f"{COUNT} of {COUNT} files".encode() in shown
