"""The verb ``key``, and how ``serve`` finds the files that callers' keys and certificates are in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from shipworthy import settings
from shipworthy.cli import cli, serve
from shipworthy.serve import keys
from shipworthy.serve.keys import Rights


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["key", *arguments])
    return done.exit_code, done.output


def test_the_key_is_printed_once_and_its_entry_goes_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    code, text = run("ci", "--models", "digits,iris", "--file", str(path))
    assert code == 0
    assert keys.read(path).find([f"Bearer {text.splitlines()[0]}".encode()]) == Rights(frozenset({"digits", "iris"}))
    assert "[keys.ci]" not in text


def test_without_a_file_the_entry_is_printed() -> None:
    code, text = run("ci", "--operate", "--json")
    told = json.loads(text)
    assert code == 0
    assert keys.parse(told["entry"], "x").find([f"Bearer {told['key']}".encode()]) == Rights(None, operate=True)
    assert '[keys.ci]\nhash = "sha256:' in run("ci")[1]


def test_a_flag_means_a_file_from_here_and_the_settings_one_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    file = tmp_path / "project" / "shipworthy.toml"
    file.write_text("[model]\nname = 'm'\npath = 'm.onnx'\n[serve]\napi_key_file = 'keys.toml'\n")
    monkeypatch.chdir(tmp_path)
    given = dict.fromkeys(("host", "versions", "port", "grpc_port", "drain_delay", *serve.FILES)) | {
        "workers": "auto",
        "no_tune": False,
        "tls_cert": "here.pem",
    }
    found = serve._placed(settings.read(file, serve._overrides((), given)))
    assert (found.api_key_file, found.tls_cert) == (str(tmp_path / "project" / "keys.toml"), str(tmp_path / "here.pem"))
    assert found.tls_key == ""
