"""Remarks on many files in few lines: how many, what of them, and the first of their names."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

SHOWN = 3  # names in a line
KINDS = 10  # lines of one head
WIDTH = 120  # characters of a name or a reason


def shown(text: str) -> str:
    """The text for a line of a log: what does not print is escaped, and a long text is cut."""
    safe = text if text.isprintable() else ascii(text)
    return safe if len(safe) <= WIDTH else f"{safe[: WIDTH - 3]}..."


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(shown, names[:SHOWN])) + more


def counted(count: int, noun: str) -> str:
    """A number of things: "1 picture", "2 pictures"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def remark(names: Sequence[str], noun: str, what: str) -> list[str]:
    """The line on files with one remark in common; none where there are no such files."""
    return [f"{counted(len(names), noun)} {what}: {some(names)}"] if names else []


def grouped(reasons: Iterable[tuple[str, str]], noun: str, what: str) -> list[str]:
    """Lines on files, each with its reason: one for each kind of reason, which differ by more than their numbers."""
    kinds: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, reason in reasons:
        kinds[re.sub(r"\d+", "#", reason)].append((name, reason))
    groups = sorted(kinds.values(), key=len, reverse=True)
    lines = [
        f"{counted(len(group), noun)} {what}: {shown(_common([reason for _, reason in group]))}: "
        f"{some([name for name, _ in group])}"
        for group in groups[:KINDS]
    ]
    rest = [name for group in groups[KINDS:] for name, _ in group]
    return lines + remark(rest, noun, f"{what} for other reasons")


def _common(reasons: list[str]) -> str:
    """Reasons that differ in their numbers as one, with "..." for each number that differs."""
    parts = zip(*(re.split(r"(\d+)", reason) for reason in reasons), strict=True)
    return "".join(words[0] if len(set(words)) == 1 else "..." for words in parts)
