"""What no figure outweighs: pictures that show nothing, and copies of training pictures."""

from collections import Counter
from collections.abc import Iterator

from tasks.core.evaluation.measures import Findings


def refusals(found: Findings, max_exact: float) -> tuple[str, ...]:
    """Why a model is refused outright, in words."""
    return (*_faulty(found), *_copying(found, max_exact))


def _faulty(found: Findings) -> Iterator[str]:
    kinds = Counter(fault.partition(": ")[0] for fault in found.faults)
    for kind, count in kinds.items():
        first = next(f.partition(": ")[2] for f in found.faults if f.startswith(f"{kind}: "))
        yield f"{count} of {found.pictures} pictures are {kind}, the first: {first}"


def _copying(found: Findings, max_exact: float) -> Iterator[str]:
    if found.compared and len(found.copies) / found.compared > max_exact:
        yield (
            f"{len(found.copies)} of {found.compared} pictures are copies of training pictures by their perceptual "
            f"hash, of which at most {max_exact:.0%} may be; the first: {found.copies[0]}"
        )
