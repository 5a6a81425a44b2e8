"""The processes of a training: each does its part of a step, and their gradients are summed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from tasks.core.models.device import pick_device


class Ranks:
    """A single process."""

    rank, count = 0, 1

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""

    @contextmanager
    def first(self) -> Iterator[None]:
        """The first process runs the block before the others, so that they find its cached results."""
        yield


class ManyRanks(Ranks):
    """One of the processes that `launch` has started."""

    def __init__(self, device: str) -> None:
        from accelerate import Accelerator  # noqa: PLC0415  late: a single process does not need it

        self.accelerator = Accelerator(cpu=pick_device(device).type == "cpu")
        self.rank, self.count = self.accelerator.process_index, self.accelerator.num_processes
        self.device = str(self.accelerator.device)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """All of them in one message."""
        flat = torch.cat([tensor.detach().float().flatten() for tensor in tensors])
        total = self.accelerator.reduce(flat, "sum")
        for tensor, part in zip(tensors, total.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(part.view_as(tensor))

    @contextmanager
    def first(self) -> Iterator[None]:
        """See above."""
        with self.accelerator.main_process_first():
            yield

    def end(self) -> None:
        """Leave the process group."""
        self.accelerator.end_training()
