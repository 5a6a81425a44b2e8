"""Memory: the micro-batch that fits, the peak, and advice when it is exhausted."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from tasks.core.config.training import TrainSpec
from tasks.core.errors import OutOfMemory

STATUS = Path("/proc/self/status")
CPU_SHARE = 0.7  # of the free memory that a forward pass may take
MIB = 2**20


def peak_mib(device: torch.device) -> float:
    """The most memory that was in use, in MiB: of the GPU, or of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device) / MIB)
    if STATUS.exists():  # on Linux getrusage also counts the parent process
        kib = next(
            line.split()[1] for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")
        )
        return int(kib) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB  # bytes on macOS


def probe(attempt: Callable[[int], None], most: int, device: torch.device) -> int:
    """How many of `most` pictures a forward pass and its gradients can hold.

    On a GPU by trial, halving until they fit. On a CPU, where too much would kill the process, from the memory of
    one picture.
    """
    if most == 1:
        return 1
    if device.type != "cuda":
        before = peak_mib(device)
        attempt(1)
        each = max(peak_mib(device) - before, 1.0)
        return max(1, min(most, int(CPU_SHARE * psutil.virtual_memory().available / MIB / each)))
    while most > 1:
        try:
            attempt(most)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            most = -(-most // 2)
        else:
            return most
    return most


@contextmanager
def explained(spec: TrainSpec, pictures: int) -> Iterator[None]:
    """Turn torch's errors about memory into OutOfMemory with advice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(_short(error), _advice(spec, pictures)) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(_short(error), _advice(spec, pictures)) from error


def _short(error: RuntimeError) -> str:
    return str(error).splitlines()[0].split(". GPU ")[0][:200]


def _advice(spec: TrainSpec, pictures: int) -> str:
    choices = [
        (pictures > 1, f"train.compute.micro_batch: {max(1, pictures // 2)}"),
        (not spec.compute.gradient_checkpointing, "train.compute.gradient_checkpointing: true"),
        (spec.precision == "fp32", "train.precision: bf16"),
        (spec.optimiser == "adamw", "train.optimiser: adamw_8bit"),
        (True, f"a train.resolution under {spec.resolution}"),
    ]
    return ", or ".join(text for wanted, text in choices if wanted)
