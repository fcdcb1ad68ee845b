"""Whether the tracking server answers, asked before MLflow is imported: it would try again for minutes."""

from __future__ import annotations

import socket
import sqlite3
import ssl
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from shipworthy.errors import Failed, Refused

SECONDS = 4.0

_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def reachable(tracking_uri: str) -> None:
    """Do nothing if the server of a tracking URI answers, or if there is no server to ask; takes at most some seconds.

    Raises:
        Refused: the URI names a folder, which MLflow no longer writes to.
        Failed: the server does not answer, or the SQLite file is not a database.
    """
    parts = urlsplit(tracking_uri)
    if parts.scheme in ("", "file"):
        raise Refused(
            "MLflow no longer tracks to a folder",
            found=tracking_uri or "no tracking URI",
            expected="sqlite:///FILE, a database or a server",
            next="set MLFLOW_TRACKING_URI=sqlite:///mlflow.db, or unset it",
        )
    kind = parts.scheme.partition("+")[0]
    try:
        if kind in ("http", "https"):
            _ask(tracking_uri)
        elif kind == "sqlite":
            _read(Path(tracking_uri.partition(":///")[2].partition("?")[0]))
        elif parts.hostname and (parts.port or kind in _PORTS):
            socket.create_connection((parts.hostname, parts.port or _PORTS[kind]), timeout=SECONDS).close()
    except (OSError, ValueError, sqlite3.Error) as error:
        raise Failed(
            f"MLflow does not answer at {shown(tracking_uri)}",
            found=str(error) or type(error).__name__,
            next="start it or correct MLFLOW_TRACKING_URI; everything before this step is kept, so run the same command again",
        ) from error


def shown(tracking_uri: str) -> str:
    """The URI without its password: what may stand in messages and records."""
    parts = urlsplit(tracking_uri)
    if parts.password is None:
        return tracking_uri
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{place}"))


def without_password(text: str, tracking_uri: str) -> str:
    """What somebody else said, with the password of the URI taken out."""
    password = urlsplit(tracking_uri).password
    return text.replace(password, "***") if password else text


def _ask(url: str) -> None:
    """Any answer will do, also a refusal: what counts is that something speaks HTTP there before the time is up."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname = False  # nothing secret is sent; MLflow's own requests check the certificate
    context.verify_mode = ssl.CERT_NONE
    health = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], f"{parts.path.rstrip('/')}/health", "", ""))
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect())
    try:
        opener.open(health, timeout=SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()


def _read(path: Path) -> None:
    if path.name and path.exists():
        with closing(sqlite3.connect(path, timeout=SECONDS)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer; to follow it could take us anywhere."""

    def redirect_request(self, *_: object) -> None:
        return None
