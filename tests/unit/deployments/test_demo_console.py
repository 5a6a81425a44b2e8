"""The demo's console: progress is replaced on a terminal, and rare elsewhere."""

import io

from deployments.demo.console import CLEAR, Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_replaced_on_a_terminal() -> None:
    out = Terminal()
    console = Console(out=out)
    for text in ("1 of 2 pictures", "2 of 2 pictures"):
        console.progress(text)
    console.line("done")
    console.line("more")
    assert out.getvalue() == (
        f"  0:00     1 of 2 pictures{CLEAR}  0:00     2 of 2 pictures{CLEAR}  0:00  done\n  0:00  more\n"
    )


def test_progress_in_a_file_is_a_line_now_and_then() -> None:
    out = io.StringIO()
    console = Console(out=out)
    for number in range(1, 100):
        console.progress(f"{number} of 100 pictures")
    assert out.getvalue() == "  0:00     1 of 100 pictures\n"
    console.start -= 25
    console.progress("100 of 100 pictures")
    assert out.getvalue().endswith("  0:25     100 of 100 pictures\n")


def test_a_line_is_not_printed_twice_in_a_row() -> None:
    out = io.StringIO()
    console = Console(before=61, out=out)
    console.line("waiting")
    console.line("waiting")
    console.title("A step")
    assert out.getvalue() == "  1:01  waiting\n  1:01  == A step\n"
