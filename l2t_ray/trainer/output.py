"""What a trainer prints: its beginning and its end are kept, whatever its length."""

import codecs
import contextlib
import io
import logging
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

HEAD_CHARACTERS, TAIL_CHARACTERS = 32_000, 96_000
NAME = "output.txt"


class Output:
    """Text in bounded memory."""

    def __init__(self) -> None:
        self._head, self._n_head = io.StringIO(), 0
        self._tail: deque[str] = deque()
        self._n_tail = self._n_dropped = 0

    def write(self, text: str) -> None:
        """Keeps a text, or the last part of it."""
        rest = text
        if self._n_head < HEAD_CHARACTERS:
            first, rest = text[: HEAD_CHARACTERS - self._n_head], text[HEAD_CHARACTERS - self._n_head :]
            self._head.write(first)
            self._n_head += len(first)
        if rest:
            kept = rest[-TAIL_CHARACTERS:]
            self._n_dropped += len(rest) - len(kept)
            self._tail.append(kept)
            self._n_tail += len(kept)
            while self._n_tail - len(self._tail[0]) >= TAIL_CHARACTERS:
                dropped = len(self._tail.popleft())
                self._n_tail, self._n_dropped = self._n_tail - dropped, self._n_dropped + dropped

    @property
    def text(self) -> str:
        """What was printed; where it was too long, a line says how much is left out."""
        gap = f"\n... {self._n_dropped:,} characters are left out ...\n" if self._n_dropped else ""
        return f"{self._head.getvalue()}{gap}{''.join(self._tail)}"

    @contextlib.contextmanager
    def captured(self) -> Iterator[None]:
        """Takes what this process prints in the block, on stdout and stderr."""
        self._streams = (sys.stdout, sys.stderr)
        stream = io.TextIOWrapper(_Bytes(self), "utf-8", "backslashreplace", write_through=True)  # type: ignore[type-var]
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream), logging_kept():
            yield

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Within `captured`, gives stdout and stderr back for a block."""
        out, err = self._streams
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield


@contextlib.contextmanager
def logging_kept() -> Iterator[None]:
    """Undoes how the block sets up logging, as `basicConfig` works once and a handler keeps its run's stream."""
    root, streams = logging.root, (sys.stdout, sys.stderr)
    level, handlers, others = root.level, [*root.handlers], {one for logger in _named() for one in logger.handlers}
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        for logger in _named():
            logger.handlers[:] = [
                one for one in logger.handlers if one in others or getattr(one, "stream", None) not in streams
            ]


def _named() -> list[logging.Logger]:
    found = logging.Logger.manager.loggerDict.copy().values()
    return [logger for logger in found if isinstance(logger, logging.Logger)]  # others only have loggers below them


class _Bytes(io.BufferedIOBase):
    """What stands behind a stream, for programs that write bytes or ask for its file: that is the process' own."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output, self._decoder = output, codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._output.write(self._decoder.decode(content := bytes(content)))
        return len(content)

    def fileno(self) -> int:
        if sys.__stdout__ is None:
            raise io.UnsupportedOperation("fileno")
        return sys.__stdout__.fileno()
