"""What the server knows of keys and certificates: read whole at the start and at SIGHUP, and handed to every worker.

Workers get what was read, not the names of files: all have the same, whatever becomes of the files in the meantime.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from shipworthy.errors import Refused
from shipworthy.serve import keys
from shipworthy.serve.keys import Keys
from shipworthy.settings import ServeSettings

LARGEST_PEM = 1_000_000
HTTP_ALPN, GRPC_ALPN = "http/1.1", "h2"


@dataclass(frozen=True)
class Tls:
    """A certificate with those that vouch for it, and its key, as PEM; ``client_ca``: who vouches for clients, or empty."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: str = ""


@dataclass(frozen=True)
class Security:
    """The keys that callers must have, and what TLS needs; ``None``: none is asked for, or spoken."""

    keys: Keys | None = None
    tls: Tls | None = None


def read(settings: ServeSettings) -> Security:
    """What the files say that the settings name.

    Raises:
        Refused: a file is missing or broken, or they do not fit together.
    """
    return Security(keys.read(Path(settings.api_key_file)) if settings.api_key_file else None, _tls(settings))


def _tls(settings: ServeSettings) -> Tls | None:
    named = {"tls_cert": settings.tls_cert, "tls_key": settings.tls_key, "tls_client_ca": settings.tls_client_ca}
    if not any(named.values()):
        return None
    for needed in ("tls_cert", "tls_key"):
        if not named[needed]:
            given = ", ".join(name for name, path in named.items() if path)
            raise Refused(f"TLS needs {needed}", found=given, next=f"give --{needed.replace('_', '-')} FILE, too")
    certificate, key = _pem(named["tls_cert"]), _pem(named["tls_key"])
    if b"ENCRYPTED" in key:
        raise Refused(
            f"the key in {named['tls_key']} is encrypted: nobody is there to type its password",
            next="write it without, readable for the server alone: openssl pkey -in KEY -out PLAIN",
        )
    try:
        authority = _pem(named["tls_client_ca"]).decode("ascii") if named["tls_client_ca"] else ""
    except UnicodeDecodeError:
        raise Refused(f"{named['tls_client_ca']} is not PEM", expected="certificates of authorities as PEM") from None
    tls = Tls(certificate, key, authority)
    context(tls, HTTP_ALPN)
    return tls


def context(tls: Tls, protocol: str) -> ssl.SSLContext:
    """What a connection needs to speak TLS 1.2 or newer, with ``protocol`` as its ALPN.

    Raises:
        Refused: certificate and key do not fit, or something in them is no PEM.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols([protocol])
    memory = os.memfd_create("tls")  # Python reads certificates from files only
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(tls.key + b"\n" + tls.certificate)
        made.load_cert_chain(f"/proc/self/fd/{memory}", password="")
        if tls.client_ca:
            made.load_verify_locations(cadata=tls.client_ca)
            made.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, ValueError) as error:
        said = getattr(error, "reason", None) or str(error)
        raise Refused(
            "the TLS certificate and key cannot be used",
            found=str(said)[:200],
            expected="a certificate and its own key as PEM (and authorities as PEM for clients)",
            next="see whether they fit: openssl x509 -pubkey -noout -in CERT; openssl pkey -pubout -in KEY",
        ) from None
    finally:
        os.close(memory)
    return made


def _pem(name: str) -> bytes:
    try:
        with Path(name).open("rb") as stream:
            data = stream.read(LARGEST_PEM + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        said = getattr(error, "strerror", None) or str(error)
        raise Refused(f"the TLS file {name} cannot be read", found=said, expected="a readable file") from None
    if len(data) > LARGEST_PEM or b"-----BEGIN" not in data:
        raise Refused(f"{name} is not PEM", expected="a text with -----BEGIN in it, at most 1 MB")
    return data
