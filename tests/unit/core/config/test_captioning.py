"""The section `captioning` of a model's file."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.core.config.captioning import CaptioningSpec
from tasks.core.config.model import read_model
from tasks.core.errors import SettingError
from tests.adire import adire

LEAST = {"url": "http://127.0.0.1:8000/v1", "model": "llava"}


def test_it_is_off_by_default() -> None:
    assert adire().captioning is None


def test_it_needs_only_a_server_and_a_model() -> None:
    spec = adire(captioning=LEAST).captioning
    assert spec == CaptioningSpec.model_validate(LEAST)
    assert spec.joined("Waves of indigo.", "adire_style") == "Waves of indigo, in adire_style"
    assert spec.joined("ADIRE_STYLE waves.", "adire_style") == "ADIRE_STYLE waves."


def test_a_slash_at_the_end_of_the_address_is_dropped() -> None:
    assert CaptioningSpec(url="https://example.org/v1/", model="llava").url == "https://example.org/v1"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000/v1",
        "ftp://127.0.0.1/v1",
        "file:///etc/passwd",
        "http:///v1",
        "http://[::1/v1",
        "http://127.0.0.1:99999/v1",
        "http://ada:secret@127.0.0.1/v1",
        "http://127.0.0.1/v1?key=secret",
        "http://127.0.0.1/v1#x",
        "http://127.0.0.1/v 1",
        "http://127.0.0.1/v1\n",
        "http://bücher.example/v1",
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="must"):
        CaptioningSpec(url=url, model="llava")


@pytest.mark.parametrize(
    "template",
    ["", "{trigger}", "{caption} {other}", "{caption", "{caption!r}", "{caption:>9}", "{caption.x}", "{}{caption}"],
)
def test_a_template_that_cannot_be_filled_is_refused(template: str) -> None:
    with pytest.raises(ValidationError):
        CaptioningSpec.model_validate(LEAST | {"template": template})


def test_braces_of_a_caption_are_no_fields() -> None:
    spec = CaptioningSpec.model_validate(LEAST)
    assert spec.joined("a {trigger} {0}", "x_style") == "a {trigger} {0}, in x_style"


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "batik.yaml"
    section = "{urll: x, model: '', prompt: ' ', side: 1, concurrency: 0, timeout: .nan, price_in: -1}"
    path.write_text(f"{{name: batik, trigger: x, class_noun: y, captioning: {section}}}")
    with pytest.raises(SettingError) as caught:
        read_model(path)
    for fault in (
        "captioning.url: Field required",
        "captioning.urll: unknown key, did you mean 'url'?",
        "captioning.model: ",
        "captioning.prompt: must not be blank",
        "captioning.side: ",
        "captioning.concurrency: ",
        "captioning.timeout: ",
        "captioning.price_in: ",
    ):
        assert fault in str(caught.value)


def test_one_price_alone_is_refused() -> None:
    with pytest.raises(ValidationError, match="give both"):
        CaptioningSpec.model_validate(LEAST | {"price_in": 1})
