"""Files that [serve] names lie beside the settings, whatever folder the server is started in."""

from __future__ import annotations

import pytest

from shipworthy.cli.serve import _placed
from shipworthy.settings import parse


@pytest.mark.parametrize(
    ("named", "meant"),
    [("logs/a.log", "/srv/digits/logs/a.log"), ("/var/a.log", "/var/a.log"), ("-", "-"), ("", "")],
    ids=["relative", "absolute", "standard error", "none"],
)
def test_the_access_log_lies_beside_the_settings(named: str, meant: str) -> None:
    plain = {"model": {"name": "m", "path": "m.onnx"}, "serve": {"access_log": named, "api_key_file": "keys.toml"}}
    placed = _placed(parse(plain, "/srv/digits/shipworthy.toml"))
    assert placed.access_log == meant
    assert placed.api_key_file == "/srv/digits/keys.toml"
