"""The server: binds the address and runs the workers until it is told to stop."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import resource
import socket
from collections.abc import Callable

import msgspec

from shipworthy.errors import Refused
from shipworthy.serve import handover, security
from shipworthy.serve.security import Security
from shipworthy.serve.source import Source
from shipworthy.serve.supervisor import Supervisor
from shipworthy.serve.worker import GRPC, HTTP, Work
from shipworthy.settings import ServeSettings

BACKLOG = 2048
# Files that a process of the server has open beside its connections.
SPARE_FILES = 256

log = logging.getLogger(__name__)


def run(
    source: Source,
    settings: ServeSettings,
    announce: Callable[[str, str], None],
    *,
    stop_on_eof: bool = False,
) -> None:
    """Serve what ``source`` offers until SIGTERM or SIGINT, then answer what was asked and return.

    Args:
        source: where the models lie; all of them are loaded at the start, or as many as ``memory_mb`` allows.
        settings: address, port (0: a free one), workers and limits.
        announce: called with the URL, and the HOST:PORT of gRPC, once those are loaded and requests are answered.
        stop_on_eof: stop, too, when standard input closes.

    Raises:
        Refused: the address or port cannot be had, a model cannot be loaded, or keys or certificates cannot be used.
        NotFound: a model is not there any more.
    """
    secured = security.read(settings)
    offers = [source.find(name) for name in source.names()]
    if not offers:
        raise Refused("there is nothing to serve", expected="at least one model", next="name one that is there")
    with contextlib.ExitStack() as stack:
        sockets = handover.inherited() or [bind(settings.host, port) for port in (settings.port, settings.grpc_port)]
        http, grpc = (stack.enter_context(one) for one in sockets)
        host = http.getsockname()[0]
        if not ipaddress.ip_address(host).is_loopback:
            _warn(host, secured)

        def ready() -> None:
            for listener in (http, grpc):  # only now: until they listen, callers are refused, not kept waiting
                _listen(listener, settings)
            announce(f"http{'s' if secured.tls else ''}://{_address(http)}", _address(grpc))
            handover.say_ready()

        settings = msgspec.structs.replace(settings, max_connections=_connections(settings.max_connections))
        work = Work(offers, source, settings, len(os.sched_getaffinity(0)), grpc.getsockname()[1], security=secured)
        Supervisor(work, {HTTP: http, GRPC: grpc}, ready).run(stop_on_eof=stop_on_eof)


def _warn(host: str, secured: Security) -> None:
    if secured.keys is None:
        log.warning("other machines can reach this server, and it asks nobody for a key (host %s)", host)
    elif secured.tls is None:
        log.warning("other machines can reach this server, and without TLS their keys can be read on the way (host %s)", host)


def _connections(wanted: int) -> int:
    """How many connections there can be: each is an open file, of which the system gives a process so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < needed:
        log.warning("max_connections is %d, and this process may have %d files open (ulimit -n)", wanted, soft)
    return max(1, soft - SPARE_FILES)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not listening yet: until it does, callers are refused, not kept waiting.

    Raises:
        Refused: the host is unknown or not of this machine, the port is taken or privileged.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
    except (socket.gaierror, UnicodeError) as error:
        raise _unusable(host, port, error) from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _unusable(host, port, error) from None
    return listener


def _listen(listener: socket.socket, settings: ServeSettings) -> None:
    try:
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:  # another process that bound the port in the same moment listens already
        raise _unusable(settings.host, settings.port, error) from None


def _unusable(host: str, port: int, error: OSError | UnicodeError) -> Refused:
    number = error.errno if isinstance(error, OSError) else None
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if number == errno.EADDRINUSE:
        what, mend = f"port {port} is taken", "stop what listens there, or choose another with --port (0: a free one)"
    elif number in {errno.EACCES, errno.EPERM}:
        what, mend = f"this user may not listen on port {port}", "choose one above 1023 with --port"
    elif isinstance(error, socket.gaierror | UnicodeError):
        what, mend = f"the host '{host}' is not known", "correct --host; 127.0.0.1 is this machine only, 0.0.0.0 every address"
    else:
        what, mend = f"cannot listen on {host} port {port}", "--host must be an address of this machine"
    return Refused(what, found=f"{host}: {said}", expected="an address and a free port of this machine", next=mend)
