"""The training loop of the base: cut off and started again, it ends with the same weights bit for bit."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import Linear

from infra.base.loop import Loop, Weights
from infra.base.muon import Muon


class Cut(Exception):
    """The process dies here."""


def run(folder: Path, cut: int = 0) -> tuple[Weights, list[int]]:
    """Ten steps of a small regression; the averaged weights and the steps that were kept."""
    torch.manual_seed(0)
    model, kept = Linear(4, 3), []
    optimisers = [
        Muon([p for p in model.parameters() if p.ndim == 2], lr=0.02),
        torch.optim.AdamW([model.bias], lr=0.01),
    ]

    def loss(step: int) -> Tensor:
        if step == cut:
            raise Cut
        rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        error: Tensor = (model(rows) - rows[:, :3] ** 2).square().mean()
        return error

    loop = Loop("test", model, optimisers, 10, folder, warm=3, keep_every=4)
    return loop.run(loss, lambda _: kept.append(len(kept))), kept


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    straight, kept = run(tmp_path / "straight")
    assert len(kept) == 3  # after steps 4, 8 and 10
    with pytest.raises(Cut):
        run(tmp_path / "cut", cut=7)
    resumed, kept = run(tmp_path / "cut")
    assert len(kept) == 2
    assert all(torch.equal(resumed[name], value) for name, value in straight.items())


def test_a_finished_run_only_gives_its_weights(tmp_path: Path) -> None:
    straight, _ = run(tmp_path)
    again, kept = run(tmp_path, cut=1)
    assert kept == []
    assert all(torch.equal(again[name], value) for name, value in straight.items())
