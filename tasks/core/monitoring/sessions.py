"""How a window's requests are spread over its sessions: many for one session say little, and the cause is told."""

from collections import Counter

from tasks.core.data.prompt_log import PromptLine


def largest_share(lines: list[PromptLine]) -> float:
    """The share of the requests that came in the largest session; 0 where there are none."""
    return max(Counter(line.session for line in lines).values(), default=0) / max(len(lines), 1)


def session_advice(lines: list[PromptLine], cap: int) -> str:
    """What to do where half of the requests or more do not count since their sessions have sent `cap` already."""
    beyond = sum(max(count - cap, 0) for count in Counter(line.session for line in lines).values())
    if not lines or 2 * beyond < len(lines):
        return ""
    return (
        f"{largest_share(lines):.0%} of the requests came in one session, and of a session {cap} count: "
        f"{beyond} of {len(lines)} requests do not. Where one backend asks for many visitors it must send "
        "`session` with each request, a name that stands for the visitor"
    )
