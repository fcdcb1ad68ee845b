"""shipworthy.toml: what is accepted, and what is said of what is not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy import settings
from shipworthy.errors import Refused
from shipworthy.records import Target

MODEL = '[model]\nname = "m"\npath = "m.onnx"\n'


@pytest.fixture
def read(tmp_path):
    def read(text: str, **overrides: str) -> settings.Settings:
        (tmp_path / "shipworthy.toml").write_text(text)
        return settings.read(tmp_path, {key.replace("__", "."): value for key, value in overrides.items()})

    return read


def test_the_least_file_gives_the_defaults(read, tmp_path):
    one = read(MODEL)
    assert one.model == settings.ModelSettings(name="m", path="m.onnx")
    assert one.gates == settings.GateSettings()
    assert one.folder == str(tmp_path)
    assert one.file("a/b") == tmp_path / "a" / "b"
    assert settings.read(tmp_path / "shipworthy.toml") == one, "a folder and the file in it are the same"


BAD = {
    "not TOML": ("[model", "is not TOML", "at end of document"),
    "no model": ("", "the file is not right", "missing required field `model`"),
    "no path": ('[model]\nname = "m"', "model is not right", "missing required field `path`"),
    "unknown section": (MODEL + "[gate]\n", "unknown key 'gate'; did you mean 'gates'?", "gates"),
    "unknown key": (MODEL + "[gates]\np99 = 1", "unknown key 'gates.p99'; did you mean 'gates.p99_ms'?", "in [gates]: "),
    "far off": (MODEL + "[gates]\nxyzzy = 1", "unknown key 'gates.xyzzy'\n", "p99_ms"),
    "in a target": (MODEL + "[targets.a]\nthread = 1", "unknown key 'targets.a.thread'; did you mean 'targets.a.threads'?", ""),
    "folder is ours": ('folder = "x"\n' + MODEL, "unknown key 'folder'", ""),
    "wrong type": (MODEL + '[gates]\np99_ms = "5"', "gates.p99_ms is not right", "got `str` (gates.p99_ms = '5')"),
    "bool for number": (MODEL + "[gates]\np99_ms = true", "gates.p99_ms is not right", "got `bool`"),
    "date for number": (MODEL + "[gates]\np99_ms = 1979-01-01", "gates.p99_ms is not right", "got `date`"),
    "above": (MODEL + "[gates]\naccuracy_percent = 101", "gates.accuracy_percent is not right", "<= 100.0"),
    "below": (MODEL + "[measure]\nrepeats = 0", "measure.repeats is not right", ">= 1 (measure.repeats = 0)"),
    "zero": (MODEL + "[gates]\np50_ms = 0", "gates.p50_ms is not right", "> 0.0"),
    "nan": (MODEL + "[gates]\np50_ms = nan", "gates.p50_ms is not right", "nan"),
    "infinite": (MODEL + "[gates]\np50_ms = inf", "gates.p50_ms is not right", "inf"),
    "port": (MODEL + "[serve]\nport = 65536", "serve.port is not right", "<= 65535"),
    "one of": (MODEL + '[optimize]\ngoal = "speed"', "optimize.goal is not right", "Invalid enum value 'speed'"),
    "one of many": (MODEL + '[optimize]\npasses = ["shrink"]', "optimize.passes", "Invalid enum value 'shrink'"),
    "all is zero": (MODEL + "[optimize]\nprune_final_percent = 100", "optimize.prune_final_percent is not right", "< 100.0"),
    "a schedule that ends before it begins": (
        MODEL + "[optimize]\nprune_begin_percent = 60",
        "optimize is not right",
        "prune_begin_percent 60 is more than prune_end_percent 50",
    ),
    "fewer zeros at the end": (
        MODEL + "[optimize]\nprune_final_percent = 20",
        "optimize is not right",
        "prune_initial_percent 30 is more than prune_final_percent 20",
    ),
    "name": ('[model]\nname = "a/b"\npath = "m"', "model.name is not right", "matching regex"),
    "name with a line end": ('[model]\nname = "a\\n"\npath = "m"', "model.name is not right", "matching regex"),
    "alias": (MODEL + '[rollout]\nalias = "Champion"', "rollout.alias is not right", "matching regex"),
    "alias with a line end": (MODEL + '[rollout]\nalias = "a\\n"', "rollout.alias is not right", "matching regex"),
    "section is a number": ("model = 1", "model is not right", "got `int`"),
    "target is a number": (MODEL + "[targets]\na = 1", "targets", "got `int`"),
    "a device that nothing runs on": (MODEL + '[targets.a]\ndevice = "tpu"', "targets", "Invalid enum value 'tpu'"),
    "a runtime that is not for the device": (
        MODEL + '[targets.a]\nruntime = "tensorrt"',
        "targets[...] is not right",
        "there are onnxruntime on cpu or cuda; tensorrt on cuda; openvino on cpu",
    ),
    "a device that is not for the runtime": (MODEL + '[targets.a]\ndevice = "cuda"\nruntime = "openvino"', "targets", "on cpu"),
    "a silence without a reason": (MODEL + '[[check.silence]]\nlaw = "format"', "check.silence[0] is not right", "`reason`"),
    "a silence with an empty reason": (
        MODEL + '[[check.silence]]\nlaw = "format"\nreason = ""',
        "check.silence[0].reason is not right",
        "length >= 1",
    ),
    "a silence with a blank reason": (
        MODEL + '[[check.silence]]\nlaw = "format"\nreason = " \\t"',
        "check.silence[0] is not right",
        "the reason is blank: say why the finding may stay",
    ),
    "an unknown key in a silence": (
        MODEL + '[[check.silence]]\nlaw = "format"\nreson = "x"',
        "unknown key 'check.silence.reson'; did you mean 'check.silence.reason'?",
        "in [check.silence]: law, place, reason",
    ),
    "one silence instead of several": (MODEL + '[check.silence]\nlaw = "format"', "check.silence is not right", "`array`"),
    "too deep": ("a = " + "[" * 5000, "is not TOML", "recursion"),
}


@pytest.mark.parametrize(("text", "what", "more"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_named_with_its_place(read, text, what, more):
    with pytest.raises(Refused) as caught:
        read(text)
    assert "shipworthy.toml" in caught.value.what
    assert what in f"{caught.value.what}\n"
    assert more in str(caught.value)
    assert caught.value.next


@pytest.mark.parametrize(("key", "value"), [("serve.workers", "many"), ("check.silence", "[{law='format'}]")])
def test_what_is_wrong_with_an_option_is_not_the_files_fault(tmp_path, key, value):
    (tmp_path / "shipworthy.toml").write_text(MODEL)
    with pytest.raises(Refused, match=r"^the command line: .* is not right"):
        settings.read(tmp_path, {key: value})


def test_a_missing_file_says_how_to_write_one(tmp_path):
    with pytest.raises(Refused, match=r"no shipworthy.toml in (.|\n)*shipworthy init"):
        settings.read(tmp_path)


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b"])
def test_a_path_that_cannot_be(path):
    with pytest.raises(Refused, match="cannot be read"):
        settings.read(Path(path))


def test_bytes_that_are_not_text(tmp_path):
    (tmp_path / "shipworthy.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="is not TOML"):
        settings.read(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"gates__p99_ms": "5"}, 5.0),
        ({"gates__p99_ms": "2.5"}, 2.5),
        ({}, 9.0),
    ],
)
def test_a_flag_wins_over_the_file(read, overrides, expected):
    assert read(MODEL + "[gates]\np99_ms = 9", **overrides).gates.p99_ms == expected


def test_a_flag_may_be_a_bare_word_and_may_make_a_section(read):
    one = read(MODEL, optimize__goal="size", targets__edge__threads="4", optimize__passes='["graph"]')
    assert (one.optimize.goal, one.optimize.passes) == ("size", ("graph",))
    assert one.target() == Target(name="edge", threads=4)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"gates__p99": "5"}, "did you mean 'gates.p99_ms'"),
        ({"model__name__x": "5"}, "'name' is not a section"),
        ({"gates__p99_ms": "fast"}, "gates.p99_ms is not right"),
        ({"": "5"}, "unknown key ''"),
    ],
)
def test_a_wrong_flag_is_refused(read, overrides, said):
    with pytest.raises(Refused) as caught:
        read(MODEL, **overrides)
    assert said in str(caught.value)


def test_targets(read):
    assert read(MODEL).target() == Target()
    one = read(MODEL + "[targets.a]\nthreads = 2\n[targets.b]\nmemory_mb = 64")
    assert one.target("a") == Target(name="a", threads=2)
    assert one.target("b") == Target(name="b", memory_mb=64.0)
    with pytest.raises(Refused, match=r"several targets(.|\n)*a, b(.|\n)*--target"):
        one.target()
    with pytest.raises(Refused, match=r"no target 'c'(.|\n)*targets: a, b"):
        one.target("c")


def test_silences_are_a_list_of_tables_and_may_come_from_a_flag(read):
    text = MODEL + '[[check.silence]]\nlaw = "format"\nreason = "a"\n[[check.silence]]\nlaw = "x"\nplace = "p*"\nreason = "b"'
    first = settings.SilenceSettings(law="format", reason="a")
    assert read(text).check.silence == (first, settings.SilenceSettings(law="x", place="p*", reason="b"))
    assert read(MODEL, check__silence="[{law = 'format', reason = 'a'}]").check.silence == (first,)


def test_every_option_says_what_it_is_for():
    sections = (field.type for field in msgspec.structs.fields(settings.Settings))
    for kind in (settings.TargetSettings, settings.SilenceSettings, *sections):
        if isinstance(kind, type) and issubclass(kind, settings.Section):
            for field in msgspec.inspect.type_info(kind).fields:
                assert field.type.extra_json_schema["description"], f"{kind.__name__}.{field.name}"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SECTIONS = st.sampled_from(["model", "gates", "targets", "optimize", "data", "serve", "other"])


@given(st.dictionaries(SECTIONS, PLAIN), st.dictionaries(st.text("abz.", max_size=6), st.text(max_size=6), max_size=2))
def test_whatever_stands_there_is_read_or_refused(plain, overrides):
    try:
        one = settings.parse(plain, "x.toml", overrides)
    except Refused:
        return
    assert isinstance(one, settings.Settings)


@given(st.text())
def test_whatever_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        settings.read(path)
    except Refused:
        return
    assert "model" in tomllib.loads(path.read_text(encoding="utf-8"))
