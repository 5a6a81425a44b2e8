"""A withdrawal while a target is down: it is notified, and an artifact lists what is pending."""

import logging
from pathlib import Path

import pytest

from flows import withdraw_release as flow
from tasks import lifecycle
from tasks import notify as notify_module
from tasks.core.config.requests import PromoteRequest, WithdrawRequest
from tasks.core.lifecycle.promote import promote
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tests.adire import adire, installed
from tests.candidates import evaluated
from tests.events_server import EventsServer


def test_withdrawal_is_notified_while_a_target_is_down(
    folder: FolderStore, tmp_path: Path, events: EventsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adire(publishing={"store": str(tmp_path / "public")})
    apply_config(folder, model)
    done = promote(installed(folder), adire(), PromoteRequest(evaluation=evaluated(folder, "a", 0)))
    (tmp_path / "public").write_text("no folder")
    monkeypatch.setenv("DYEWORKS_NOTIFY_WEBHOOK", f"{events.url}/hook")
    pages: list[str] = []
    for module in (lifecycle, notify_module):
        monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("run"))
    monkeypatch.setattr(lifecycle, "create_markdown_artifact", lambda text, **_: pages.append(text))
    monkeypatch.setattr(lifecycle, "notify", notify_module.notify.fn)
    asked = WithdrawRequest(generation=1, actor="ada", reason="a picture had to go")
    lifecycle.notify_withdrawal(asked, lifecycle.withdraw_generation.fn(asked))
    (notification,) = events.posted
    assert f"Release {done.release} of model {model.name} was withdrawn" in notification["text"]
    for text in (notification["text"], *pages):
        assert "Withdrawal pending, retried by reconcile-champion: " in text
        assert str(tmp_path / "public") in text


def test_withdrawal_is_notified_before_reconcile_fails() -> None:
    steps = flow.withdraw_release.fn.__code__.co_names
    assert steps.index("notify_withdrawal") < steps.index("reconcile_projections")
