"""What a terminal shows: a pseudo-terminal of a size, and the screen after all that was written to it."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading

import psutil

SEQUENCE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


def screen(text, columns):
    """The lines of a screen without a bottom, and whether its cursor is shown."""
    lines, row, column, is_shown = [""], 0, 0, True
    for match in SEQUENCE.finditer(text):
        private, numbers, kind = match[1], match[2], match[3]
        if kind == "A":
            row = max(0, row - int(numbers or 1))
        elif kind == "K":
            lines[row] = ""
        elif private and numbers == "25":
            is_shown = kind == "h"
        elif kind == "m":
            pass
        elif kind:
            raise AssertionError(f"not known: {match[0]!r}")
        elif match[0] == "\r":
            column = 0
        elif match[0] == "\n":
            row, column = row + 1, 0  # as a terminal's line discipline makes it
            lines += [""] * (row + 1 - len(lines))
        else:
            for letter in match[0]:
                if column == columns:
                    row, column = row + 1, 0
                    lines += [""] * (row + 1 - len(lines))
                lines[row] = lines[row][:column].ljust(column) + letter + lines[row][column + 1 :]
                column += 1
    return [line.rstrip() for line in lines], is_shown


class Terminal:
    """A process whose standard streams are a terminal.

    Args:
        words: the command.
        columns: of the terminal.
        lines: of the terminal.
        more: for `subprocess.Popen`.
    """

    def __init__(self, words, columns, lines, **more):
        self.columns, self.text = columns, ""
        self._own, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

        def take():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        self.process = subprocess.Popen(words, preexec_fn=take, **streams, **more)  # noqa: PLW1509  it is short
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def type(self, text):
        """Types something."""
        os.write(self._own, text.encode())

    @property
    def screen(self):
        """The screen now, as text."""
        return "\n".join(screen(self.text, self.columns)[0])

    def wait(self, most_s):
        """Waits for the end; returns the exit code."""
        code = self.process.wait(most_s)
        self._reader.join(most_s)
        return code

    def end(self):
        """Ends it, with all below it, if it still runs."""
        if self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
            self.process.kill()
            self.process.wait()

    def _read(self):
        with contextlib.suppress(OSError):  # the other side is closed
            while found := os.read(self._own, 65536):
                self.text += found.decode(errors="replace")
        os.close(self._own)
