"""Demand: pictures whose captions are near what people now ask for are drawn more often."""

import numpy as np
import numpy.typing as npt

from tasks.core.clip import Clip

TEMPERATURE = 1.0
MOST = 4.0  # times the mean weight


def demand_weights(clip: Clip, captions: list[str], demand: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """How often each picture is drawn, float64 [n], sums to 1; uniform without demand."""
    if not demand:
        return np.full(len(captions), 1 / len(captions))
    nearest = (clip.encode_texts(captions) @ clip.encode_texts(list(demand)).T).max(1).astype(np.float64)
    weights = np.exp((nearest - nearest.max()) / TEMPERATURE)
    weights = np.minimum(weights, MOST * weights.mean())
    return np.asarray(weights / weights.sum())
