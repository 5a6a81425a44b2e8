"""The storefront under load for a minute, or for ten: every request is answered, each picture is by what it names."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from io import BytesIO
from base64 import b64decode
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tasks.core.models.rendering import Renderer
from tasks.core.registry.releases import prefix
from tests.e2e.crowd import Answer, Crowd
from tests.e2e.shops import logged, wait_for
from tests.e2e.storm import MODELS, Plan, Storm, run, small_disk

pytestmark = pytest.mark.e2e
MINUTE = Plan(seconds=60, warm_up=10, away=4)
TEN_MINUTES = Plan(seconds=600, warm_up=60, away=60)
PLANS = [pytest.param(MINUTE, id="minute"), pytest.param(TEN_MINUTES, id="ten-minutes", marks=pytest.mark.slow)]
SAMPLE = 150  # pictures that are drawn again
TOLERANCE = 1  # of 255
Numbers = npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def storm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    """A storefront through which the storm has gone, and which still runs."""
    plan, place = request.param, tmp_path_factory.mktemp("load")
    with small_disk(place / "disk") as problem:
        storm = Storm(place / "home", place / "disk")
        try:
            for model in MODELS:
                storm.publish(model)
            storm.start()
            run(storm, plan, can_fill=not problem)
            yield storm
        finally:
            storm.stack.stop()


@pytest.mark.parametrize("storm", PLANS, indirect=True)
def test_try(storm: Storm) -> None:
    print(Counter((a.status, a.asked["model"].rpartition("@")[1], a.turned_away) for a in storm.answers))
    print([a.fault for a in storm.answers if a.fault][:20])
    print(Counter((a.text) for a in storm.answers if a.status not in (200,429))) 
    print(storm.bursts, storm.away, storm.full)
    print([(t-storm.watch.memory[0][0], m/2**20) for t,m in storm.watch.memory][::5])
    print(Counter((s,t) for _,s,t in storm.watch.ready if s!=200))
    print(Counter((s,t) for _,s,t in storm.watch.ready))
