"""What a user may name to be served, and what a server finds there, each time it looks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from shipworthy import records, sources
from shipworthy.errors import NotFound, Refused
from shipworthy.records import Evidence, Figure, Machine, Measured, Target
from shipworthy.release import bundle, mlflow_fetch
from shipworthy.release.mlflow_fetch import File, Registered
from shipworthy.release.registry import SqliteRegistry
from shipworthy.serve.plan import Cost
from shipworthy.serve.source import Policy
from shipworthy.workspace import Workspace

MACHINE = Machine(cpu="a cpu", isa=(), cores=2, memory_mb=1000, system="Linux", python="3.11", packages={})
TARGET = Target(name="mine", threads=2)


def write_bundle(store: Path, name: str = "digits", seed: int = 0) -> Path:
    """A bundle whose model is not loaded here, so any bytes will do; with evidence of 2 ms a row and 1,000 rows a second."""
    model = b"model %d" % seed
    digest = hashlib.sha256(model).hexdigest()
    figures = [Figure(name=key, unit="", median=value, low=0, high=9e9, samples=9, how="") for key, value in COST.items()]
    evidence = Evidence(
        variant=digest, variant_name="v", target=TARGET, machine=MACHINE, data="", measured_at="", figures=(*figures,)
    )
    parts = {"model.onnx": model, "evidence.json": records.encode(Measured(evidence=(evidence,)))}
    made, _ = bundle.write(store, parts, name=name, variant_name="v", source="a" * 64, model="b" * 64, variant=digest)
    return store / made


COST = {"p50_ms": 2.0, "throughput_rps": 1000.0}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A workspace with releases 1, 2 and 3 of 'digits': 2 is champion, 3 challenger. We stand in another folder."""
    home = Workspace(tmp_path / "home")
    registry = SqliteRegistry(home.registry)
    for seed in (1, 2, 3):
        registry.add("digits", write_bundle(home.store, seed=seed).name, "me")
    move(home, "champion", None, 2)
    move(home, "challenger", None, 3)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return home


def move(home, alias, before, after):
    SqliteRegistry(home.registry).swap("digits", alias, expected=before, version=after, by="me", reason="")


def put(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"x")


def of(home, *whats, **overrides):
    return sources.sources(whats, home.folder, overrides)[0]


def versions(offer):
    return [one.version for one in offer.versions]


@pytest.mark.parametrize(
    ("what", "served", "default", "labels"),
    [
        ("digits", [2], 2, {"champion": 2}),
        ("digits@challenger", [3], 3, {"challenger": 3}),
        ("digits@1", [1], 1, {}),
    ],
)
def test_a_release_is_served_with_what_was_measured_of_it(home, what, served, default, labels):
    source = of(home, what)
    assert source.names() == ["digits"]
    assert source.numbers("digits") == [1, 2, 3]
    assert source.numbers("iris") == []
    offer = source.find("digits")
    assert (versions(offer), offer.default, dict(offer.labels), offer.notes) == (served, default, labels, ())
    (model,) = offer.versions
    release = SqliteRegistry(home.registry).get("digits", served[0])
    assert (model.name, model.bundle, model.target, model.cost) == ("digits", release.bundle, TARGET, Cost(2.0, 1000.0))
    assert model.path == home.store / release.bundle / "model.onnx"
    with pytest.raises(NotFound):
        source.find("iris")


@pytest.mark.parametrize(
    ("what", "policy", "served", "default", "labels"),
    [
        ("digits", "all", [1, 2, 3], 2, {"champion": 2, "challenger": 3}),
        ("digits", "latest:2", [2, 3], 2, {"champion": 2, "challenger": 3}),
        ("digits", "latest", [3], 3, {"challenger": 3}),
        ("digits", "1,3", [1, 3], 3, {"challenger": 3}),
        ("digits@1", "all", [1, 2, 3], 1, {"champion": 2, "challenger": 3}),
        ("digits@challenger", "1,2", [1, 2], 2, {"champion": 2}),
    ],
)
def test_a_policy_chooses_among_all_releases(home, what, policy, served, default, labels):
    for offer in (
        of(home, what, **{"serve.versions": f"'{policy}'"}).find("digits"),
        of(home, what).find("digits", Policy.read(policy)),
    ):
        assert (versions(offer), offer.default, dict(offer.labels)) == (served, default, labels)


def test_an_alias_that_moves_is_followed(home):
    source = of(home, "digits")
    assert source.find("digits").default == 2
    move(home, "champion", 2, 1)
    assert versions(source.find("digits")) == [1]
    move(home, "champion", 1, None)
    with pytest.raises(NotFound, match="no alias 'champion'"):
        source.find("digits")
    assert of(home, "digits", **{"serve.versions": "all"}).find("digits").default == 3


@pytest.mark.parametrize(
    ("what", "policy", "said"),
    [
        ("iris", "", "no release of 'iris'"),
        ("iris", "all", "no release of 'iris'"),
        ("digits@nope", "", "no alias 'nope'"),
        ("digits@nope", "all", "no alias 'nope'"),
        ("digits@9", "", "no version 9"),
        ("digits", "7,8", "none of the versions asked for"),
    ],
)
def test_what_is_not_released_is_not_found(home, what, policy, said):
    with pytest.raises(NotFound, match=said):
        of(home, what, **{"serve.versions": f"'{policy}'"}).find(what.partition("@")[0])


def test_a_bundle_that_was_changed_is_refused_at_every_look(home):
    source = of(home, "digits")
    path = source.find("digits").versions[0].path
    path.chmod(0o644)
    path.write_bytes(b"other")
    with pytest.raises(Refused, match="was changed"):
        source.find("digits")


def test_a_bundle_folder(home):
    folder = write_bundle(Path("store"), name="iris")
    source = of(home, str(folder))
    (model,) = source.find("iris").versions
    assert (model.name, model.version, model.bundle, model.target) == ("iris", 1, folder.name, TARGET)
    assert model.path == folder / "model.onnx"


def test_a_folder_with_settings_and_the_file_itself_mean_its_release(home):
    text = "[model]\nname = 'digits'\npath = 'm.onnx'\n[rollout]\nalias = 'challenger'\n[serve]\nport = 1234\n"
    Path("project").mkdir()
    Path("project/shipworthy.toml").write_text(text)
    for what in ("project", "project/shipworthy.toml"):
        source, settings = sources.sources([what], home.folder, {"serve.tune": "false"})
        assert versions(source.find("digits")) == [3]
        assert (settings.serve.port, settings.serve.tune) == (1234, False)
    put("a.onnx")
    _, settings = sources.sources(["a.onnx", "project"], home.folder, {})
    assert settings.serve.port == 1234
    Path("second").mkdir()
    Path("second/shipworthy.toml").write_text(text.replace("digits", "iris"))
    assert sources.sources(["project", "second"], home.folder, {})[1].serve.port == 8000
    assert sources.sources(["project", "second"], home.folder, {"serve.port": "5"})[1].serve.port == 5


def test_a_bare_file(home):
    put("my model.onnx")
    source, settings = sources.sources(["my model.onnx"], home.folder, {"targets.t.threads": "3"})
    assert (source.names(), source.numbers("my-model"), source.numbers("x")) == (["my-model"], [1], [])
    offer = source.find("my-model", Policy(latest=2))
    assert (versions(offer), offer.default) == ([1], 1)
    (model,) = offer.versions
    assert (model.path, model.target, model.bundle) == (Path("my model.onnx"), settings.target(), "")
    assert model.target.threads == 3
    for name, policy in (("my-model", Policy(listed=(2,))), ("other", None)):
        with pytest.raises(NotFound):
            source.find(name, policy)
    Path("my model.onnx").unlink()
    with pytest.raises(NotFound, match=r"there is no file my model\.onnx"):
        source.find("my-model")


def test_a_model_repository(home):
    put("repo/iris/1/model.onnx", "repo/iris/2/model.onnx")
    assert versions(of(home, "repo").find("iris")) == [2]
    assert versions(of(home, "repo", **{"serve.versions": "all"}).find("iris")) == [1, 2]


def test_several_are_one_source(home):
    put("a.onnx", "repo/iris/4/model.onnx", "repo/empty/notes")
    source = of(home, "digits", "a.onnx", "repo")
    assert source.names() == ["digits", "a", "iris"]
    assert [versions(source.find(name)) for name in source.names()] == [[2], [1], [4]]
    assert [source.numbers(name) for name in ("digits", "iris", "x")] == [[1, 2, 3], [4], []]
    assert versions(source.find("digits", Policy(latest=1))) == [3]
    with pytest.raises(NotFound, match="none of the versions asked for") as missing:
        source.find("digits", Policy(listed=(9,)))
    assert missing.value.found == "versions: 1, 2, 3"
    with pytest.raises(NotFound, match="no model 'x'") as missing:
        source.find("x")
    assert "iris" in missing.value.found
    put("repo/a/1/model.onnx")
    with pytest.raises(Refused, match="several models with the name 'a'"):
        source.find("a")


@pytest.mark.parametrize(
    "whats",
    [("digits", "digits"), ("digits", "digits@1"), ("a.onnx", "b/a.onnx"), ("digits", "repo"), ("repo", "./repo")],
)
def test_a_name_that_is_there_twice_is_refused(home, whats):
    put("a.onnx", "b/a.onnx", "repo/digits/1/model.onnx")
    with pytest.raises(Refused, match="several models with the name") as refused:
        of(home, *whats)
    assert refused.value.found == ", ".join(whats)


@pytest.mark.parametrize(
    ("what", "mend"),
    [
        ("folder", "or is a release meant? folder@champion"),
        ("files", "name the file: files/a.onnx"),
        ("repo/iris", "this is one model of a model repository; name the repository: "),
        ("model.joblib", "convert it first: shipworthy ship model.joblib"),
        ("no/such", "correct the path"),
    ],
)
def test_what_cannot_be_served_is_refused_with_what_to_do(home, what, mend):
    put("folder/readme", "files/a.onnx", "repo/iris/1/model.onnx", "model.joblib")
    with pytest.raises(Refused, match="there is nothing to serve in") as refused:
        of(home, what)
    assert refused.value.next.startswith(mend)
    assert "NAME/VERSION/model.onnx" in refused.value.expected


@pytest.mark.parametrize("what", ["a" * 5000, "a\0b/c", "models:/iris", "models:iris", ""])
def test_odd_names_are_refused(home, what):
    with pytest.raises(Refused):
        of(home, what).find(what)


def test_a_repository_without_a_version_is_refused(home):
    put("repo/iris/config.pbtxt")
    Path("repo/iris/config.pbtxt").write_bytes(b"")
    with pytest.raises(Refused, match="no model in repo has a version to serve"):
        of(home, "repo")


def test_a_policy_that_is_none_is_refused(home):
    put("a.onnx")
    with pytest.raises(Refused, match="no choice of versions"):
        of(home, "a.onnx", **{"serve.versions": "'newest'"})


class Mlflow:
    """Answers as ``mlflow_fetch.fetch`` does, which has its own tests against the real MLflow."""

    def __init__(self) -> None:
        self.aliases = {"champion": 2}
        self.calls: list[tuple[str, tuple[str, ...]]] = []

    def fetch(self, uri, name, wanted, folder):
        self.calls.append((uri, tuple(wanted)))
        numbers = [int(one) if one.isdecimal() else self.aliases[one] for one in wanted]
        files = {number: File(f"{folder}/{name}-{number}.onnx", "d" * 64 if number == 2 else "") for number in numbers}
        return Registered((1, 2, 5), dict(self.aliases), files)


@pytest.fixture
def mlflow(monkeypatch):
    made = Mlflow()
    monkeypatch.setattr(mlflow_fetch, "fetch", made.fetch)
    return made


def test_a_model_in_mlflow_under_its_name_and_number(home, mlflow, monkeypatch):
    source = of(home, "models:/iris@champion")
    assert (source.names(), mlflow.calls) == (["iris"], [])
    offer = source.find("iris")
    assert (versions(offer), offer.default, dict(offer.labels)) == ([2], 2, {"champion": 2})
    (model,) = offer.versions
    assert (model.path, model.bundle, model.target) == (home.folder / "fetched" / "iris-2.onnx", "d" * 64, Target())
    mlflow.aliases["champion"] = 5
    assert versions(source.find("iris")) == [5]
    assert {uri for uri, _ in mlflow.calls} == {f"sqlite:///{home.folder}/mlflow.db"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert versions(of(home, "models:/iris/1").find("iris")) == [1]
    assert mlflow.calls[-1] == ("http://elsewhere:5000", ("1",))
    assert (source.numbers("iris"), source.numbers("x")) == ([1, 2, 5], [])
    with pytest.raises(NotFound):
        source.find("x")


def test_a_policy_chooses_among_the_versions_in_mlflow(home, mlflow):
    source = of(home, "models:/iris@champion", **{"serve.versions": "latest:2"})
    offer = source.find("iris")
    assert (versions(offer), offer.default, dict(offer.labels)) == ([2, 5], 2, {"champion": 2})
    assert [wanted for _, wanted in mlflow.calls] == [("champion",), ("5",)]
    assert versions(source.find("iris", Policy(listed=(1,)))) == [1]
    with pytest.raises(NotFound, match="none of the versions asked for"):
        source.find("iris", Policy(listed=(3,)))
