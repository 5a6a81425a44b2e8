"""The artifacts of an ingest."""

import json

import pytest
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import IngestRequest
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tasks.ingest import ingest_uploads
from tests.adire import adire
from tests.odd_pictures import encoded, noise
from tests.vision_server import CaptionServer, tinted_file


@pytest.mark.e2e
def test_what_captions_cost_is_in_the_artifact_of_the_version(folder: FolderStore) -> None:
    vision = CaptionServer()
    vision.start()
    prices = {"price_in": 1, "price_out": 10}
    apply_config(folder, adire(captioning={"url": vision.url, "model": "llava", **prices}))
    folder.write("uploads/adire/a.png", tinted_file("red"))
    with prefect_test_harness(server_startup_timeout=400), get_client(sync_client=True) as client:
        ingest_uploads(IngestRequest())
        (text,) = [str(a.data) for a in client.read_artifacts() if a.key == "adire-dataset"]
    vision.stop()
    assert "1 caption made by llava: 1 request, 900 tokens in, 12 out, cost 0.0010." in text


@pytest.mark.e2e
def test_refusals_and_remarks_are_artifacts(folder: FolderStore, applied: ModelConfig) -> None:
    printed, plain = encoded(noise(1).convert("CMYK"), "JPEG"), encoded(noise(2))
    uploads = {"a.png": plain, "copy of a.png": plain, "print.jpg": printed, "torn.png": plain[:900]}
    for name, data in uploads.items():
        folder.write(f"uploads/adire/{name}", data)
    with prefect_test_harness(server_startup_timeout=400), get_client(sync_client=True) as client:
        ingest_uploads(IngestRequest())
        tables = {a.key: json.loads(str(a.data)) for a in client.read_artifacts() if a.type == "table"}
    assert [row["name"] for row in tables["adire-quarantine"]] == ["torn.png"]
    assert [row["remark"] for row in tables["adire-remarks"]] == [
        "1 picture refused: cannot be decoded: image file is truncated: torn.png",
        "1 picture left out as the same file as another: copy of a.png (of a.png)",
        "2 pictures without a caption given the instance prompt 'a picture of cloth in adire_style': a.png, print.jpg",
        "1 picture changed: CMYK made RGB without a colour profile: print.jpg",
    ]
