"""What no figure outweighs: pictures that show nothing, and copies of training pictures."""

from collections import Counter
from collections.abc import Iterator

from tasks.core.evaluation.measures import Findings
from tasks.core.models.images import NAN


def refusals(found: Findings, drifted: tuple[str, ...], max_exact: float) -> tuple[str, ...]:
    """Why a model is refused outright, in words."""
    return (*_faulty(found, drifted), *_copying(found, max_exact))


def _faulty(found: Findings, drifted: tuple[str, ...]) -> Iterator[str]:
    """Pictures that show nothing; visitors may have asked for just that, so theirs only where it is not a number."""
    faults = [fault for fault in found.faults if fault.kind == NAN or fault.prompt not in drifted]
    for kind, count in Counter(fault.kind for fault in faults).items():
        first = next(fault.picture for fault in faults if fault.kind == kind)
        yield f"{count} of {found.pictures} pictures are {kind}, the first: {first}"


def _copying(found: Findings, max_exact: float) -> Iterator[str]:
    if found.compared and len(found.copies) / found.compared > max_exact:
        yield (
            f"{len(found.copies)} of {found.compared} pictures are copies of training pictures by their perceptual "
            f"hash, of which at most {max_exact:.0%} may be; the first: {found.copies[0]}"
        )
