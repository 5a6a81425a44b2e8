"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): orthogonalised momentum."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, by a quintic Newton-Schulz iteration, [n, rows, columns]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(Optimizer):
    """Nesterov momentum whose update is orthogonalised; for hidden matrices and convolutions."""

    def __init__(self, params: Iterable[Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; those of one shape together, for a GPU's sake."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault(p.shape, []).append(p)
            for params in alike.values():
                updates = torch.stack([self._momentum(p, group["momentum"]) for p in params])
                scale = max(1.0, updates.shape[1] / updates.shape[2]) ** 0.5
                for p, update in zip(params, orthogonalise(updates), strict=True):
                    p.add_(update.view_as(p), alpha=-group["lr"] * scale)

    def _momentum(self, p: Parameter, decay: float) -> Tensor:
        """Nesterov's look ahead, as a matrix."""
        assert p.grad is not None
        buffer: Tensor = self.state[p].setdefault("momentum", torch.zeros_like(p))
        buffer.lerp_(p.grad, 1 - decay)
        return p.grad.lerp(buffer, decay).flatten(1)
