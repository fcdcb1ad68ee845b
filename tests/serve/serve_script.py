"""A server as a child: the models and settings are JSON on the command line; the URL is one JSON line when it answers."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from shipworthy.errors import ShipworthyError
from shipworthy.records import Target
from shipworthy.serve import server
from shipworthy.serve.source import Given, ServedModel
from shipworthy.settings import ServeSettings


def main() -> None:
    plain = json.loads(sys.argv[1])
    try:
        served = [
            ServedModel(name, version, Path(path), Target(), f"digest-of-{name}") for name, version, path in plain["models"]
        ]
        server.run(
            Given(served),
            ServeSettings(**plain["settings"]),
            lambda url, grpc: print(json.dumps({"url": url, "grpc": grpc, "pid": os.getpid()}), flush=True),  # noqa: T201
            stop_on_eof=True,
        )
    except ShipworthyError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


main()
