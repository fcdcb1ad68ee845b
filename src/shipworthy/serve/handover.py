"""A server restarted on its own port: the new process gets the listening sockets, the old one goes when that is ready.

The sockets are the same in both, so a connection that waits to be accepted waits for whoever is there.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping

from shipworthy.errors import Failed

SOCKETS = "SHIPWORTHY_SOCKETS"
READY = "SHIPWORTHY_READY"


def inherited() -> list[socket.socket]:
    """The listening sockets that the process before this one has left, in its order; none: this is the first."""
    text = os.environ.pop(SOCKETS, "")
    found = []
    for number in text.split(","):
        if number.isdigit():
            os.set_inheritable(int(number), False)
            found.append(socket.socket(fileno=int(number)))
    return found


def say_ready() -> None:
    """Tell the process before this one that it may go."""
    text = os.environ.pop(READY, "")
    if text.isdigit():
        os.write(int(text), b"1")
        os.close(int(text))


class Successor:
    """The process that takes over: this one's command again, with its sockets."""

    def __init__(self, listeners: Mapping[bytes, socket.socket]) -> None:
        """Start it.

        Raises:
            Failed: it cannot be started.
        """
        self.said, ready = os.pipe()
        numbers = [listener.fileno() for listener in listeners.values()]
        environment = {**os.environ, SOCKETS: ",".join(map(str, numbers)), READY: str(ready)}
        command = [sys.executable, *sys.orig_argv[1:]]
        try:
            self._process = subprocess.Popen(command, env=environment, pass_fds=(*numbers, ready))
        except OSError as error:
            os.close(self.said)
            raise Failed("the new server cannot be started", found=str(error)) from error
        finally:
            os.close(ready)

    def is_ready(self) -> bool:
        """Whether it took over, once ``said`` can be read; else it has ended."""
        took_over = os.read(self.said, 1) == b"1"
        os.close(self.said)
        if not took_over:
            self._process.wait()
        return took_over
