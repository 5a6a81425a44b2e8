"""The prompt log's writer: gathers lines for a moment, then writes them as one object."""

import logging
import threading

from tasks.core.data.prompt_log import PromptLine, write_lines
from tasks.core.errors import DyeworksError
from tasks.core.settings import Settings
from tasks.core.store import Store

log = logging.getLogger("dyeworks.storefront")


class PromptLog:
    """Lines are kept until the store has them."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store, self.settings = store, settings
        self.lines: list[PromptLine] = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, name="prompt-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self.thread.start()

    def stop(self) -> None:
        """Write what is left and end."""
        self.stopping.set()
        self.thread.join(timeout=30)

    def add(self, line: PromptLine) -> None:
        """Take a line."""
        with self.lock:
            self.lines.append(line)

    def _work(self) -> None:
        while not self.stopping.wait(self.settings.log_seconds):
            self._write()
        self._write()

    def _write(self) -> None:
        with self.lock:
            lines, self.lines = self.lines, []
        if not lines:
            return
        try:
            write_lines(self.store, self.settings.model, lines)
        except (DyeworksError, OSError) as error:
            log.error("%d prompt-log lines wait for the store: %s", len(lines), error)
            with self.lock:
                self.lines = lines + self.lines
