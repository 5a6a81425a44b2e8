"""What a withdrawal does where a place is down: people are told, and what is left to do is on the run's page."""

import logging
from pathlib import Path

import pytest

from flows import withdraw_release as flow
from tasks import lifecycle
from tasks import notify as notices
from tasks.core.config.installation import get_settings
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest, WithdrawRequest
from tasks.core.lifecycle.promote import promote
from tasks.core.store import FolderStore
from tests.adire import installed
from tests.candidates import evaluated
from tests.events_server import EventsServer


def test_people_are_told_of_a_withdrawal_while_a_place_is_down(
    folder: FolderStore, model: ModelConfig, tmp_path: Path, events: EventsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = promote(installed(folder), model, PromoteRequest(evaluation=evaluated(folder, "a", 0)))
    (tmp_path / "public").write_text("no folder")
    monkeypatch.setenv("DYEWORKS_PUBLISH_STORE", str(tmp_path / "public"))
    monkeypatch.setenv("DYEWORKS_NOTIFY_WEBHOOK", f"{events.url}/hook")
    get_settings.cache_clear()
    pages: list[str] = []
    for module in (lifecycle, notices):
        monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("run"))
    monkeypatch.setattr(lifecycle, "create_markdown_artifact", lambda text, **_: pages.append(text))
    monkeypatch.setattr(notices, "notify", notices.notify.fn)
    found = lifecycle.withdraw_generation.fn(WithdrawRequest(generation=1, actor="ada", reason="a picture had to go"))
    lifecycle.tell_of_withdrawal(found)
    (notice,) = events.posted
    assert f"Release {done.release} of model {model.name} was withdrawn" in notice["text"]
    for told in (notice["text"], *pages):
        assert "Not withdrawn there yet, reconcile-champion goes on with it: " in told
        assert str(tmp_path / "public") in told


def test_people_are_told_before_reconcile_fails_for_the_place() -> None:
    steps = flow.withdraw_release.fn.__code__.co_names
    assert steps.index("tell_of_withdrawal") < steps.index("put_right")
