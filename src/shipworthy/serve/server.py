"""The process of the server: binds the address, loads and warms the models, answers until it is told to stop."""

from __future__ import annotations

import errno
import ipaddress
import logging
import math
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from shipworthy import data
from shipworthy.errors import Refused, ShipworthyError
from shipworthy.protocols import Array
from shipworthy.records import Signature, Target, TensorSpec
from shipworthy.serve import app
from shipworthy.settings import ServeSettings

BACKLOG = 2048
# Longer than the minute for which load balancers keep idle connections: they must be the first to close one.
KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 30

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """What to serve: a model's file under a name and a version; ``bundle`` is the digest of the bundle it lies in."""

    name: str
    version: int
    path: Path
    target: Target
    bundle: str = ""


def run(models: Sequence[ServedModel], settings: ServeSettings, announce: Callable[[str], None]) -> None:
    """Serve ``models`` until SIGTERM or SIGINT, then answer what was asked and return.

    Args:
        models: at least one; several may share a name.
        settings: address, port (0: a free one) and limits.
        announce: called with the URL once every model is loaded and requests are answered.

    Raises:
        Refused: the address or port cannot be had, or a model cannot be loaded.
    """
    if not models:
        raise Refused("there is nothing to serve", next="name at least one model")
    with bind(settings.host, settings.port) as listener:
        application = app.build(load(models), int(settings.body_limit_mb * 1e6))
        _listen(listener, settings)
        host, port = listener.getsockname()[:2]
        if not ipaddress.ip_address(host).is_loopback:
            log.warning("other machines can reach this server, and it asks nobody for a key (host %s)", host)
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        config = uvicorn.Config(
            application,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        Server(config, lambda: announce(url)).run(sockets=[listener])


class Server(uvicorn.Server):
    """uvicorn's server that says when it answers, and ends with exit code 0 when a signal stops it."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept, then say so."""
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, _sig: int, _frame: FrameType | None) -> None:
        """Stop after what was asked is answered; on a second signal, at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


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


def load(models: Sequence[ServedModel]) -> dict[str, dict[int, app.Live]]:
    """The models by name and version, each loaded and run once.

    Raises:
        Refused: a file is missing or broken, or a name and version is given twice.
    """
    from shipworthy.backends.onnxruntime import OnnxRuntimeRunner  # noqa: PLC0415  # heavy

    loaded: dict[str, dict[int, app.Live]] = {}
    for model in models:
        versions = loaded.setdefault(model.name, {})
        if model.version in versions:
            raise Refused(f"model '{model.name}' version {model.version} is named twice", next="name each once")
        runner = OnnxRuntimeRunner(model.path, model.target)
        try:
            runner.run(example(runner.signature))
        except ShipworthyError as error:
            # Made-up values may be outside what the model takes; that says nothing about real ones.
            log.warning("model '%s' was not warmed up: made-up rows do not suit it: %s", model.name, error)
        versions[model.version] = app.Live(model.name, model.version, model.bundle, runner)
    return loaded


def example(signature: Signature) -> dict[str, Array]:
    """Made-up inputs of exactly the signature's shapes, each free dimension 1."""
    inputs: dict[str, Array] = {}
    for spec in signature.inputs:
        shape = tuple(1 if n is None else n for n in spec.shape)
        flat = TensorSpec(name=spec.name, dtype=spec.dtype, shape=(None,))
        made = data.made_up(Signature(inputs=(flat,), outputs=()), math.prod(shape))
        inputs[spec.name] = made.inputs[spec.name].reshape(shape)
    return inputs


def _listen(listener: socket.socket, settings: ServeSettings) -> None:
    try:
        listener.listen(BACKLOG)
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
