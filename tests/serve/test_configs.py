"""config.pbtxt and models.config: what is followed, what is named as not followed, what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shipworthy.errors import Refused
from shipworthy.serve import configs, textproto
from shipworthy.serve.configs import Config, Entry
from shipworthy.serve.source import Policy


def triton(text: str) -> Config:
    return configs.of_triton(textproto.parse(text.encode(), "config.pbtxt"), "digits")


def tensorflow(text: str) -> dict[str, Entry]:
    return configs.of_tensorflow(textproto.parse(text.encode(), "models.config"))


WHOLE = """
name: "digits"
platform: "onnxruntime_onnx"
backend: "onnxruntime"
default_model_filename: "net.onnx"
max_batch_size: 8
version_policy: { specific: { versions: [3, 1] } }
instance_group [ { kind: KIND_CPU } ]
parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
optimization { execution_accelerators {
  cpu_execution_accelerator : [ { name : "openvino" } ]
  gpu_execution_accelerator : [ { name : "tensorrt" } ]
} }
"""


def test_all_that_is_followed_leaves_no_note():
    assert triton(WHOLE) == Config(
        file_name="net.onnx",
        most_rows=8,
        policy=Policy(listed=(1, 3)),
        threads=2,
        device="cpu",
        runtimes={"cpu": "openvino", "cuda": "tensorrt"},
        notes=(),
    )
    assert triton("") == Config("model.onnx", None, None, None, None, {}, ())


def test_what_is_not_followed_is_named_in_one_sentence():
    config = triton(
        """
        max_batch_size: 4
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]
        output [ { name: "y" }, { name: "z" } ]
        dynamic_batching { }
        instance_group [ { count: 2 kind: KIND_AUTO }, { count: 1 gpus: [0] } ]
        parameters { key: "session.x" value { string_value: "1" } }
        parameters { key: "intra_op_thread_count" value: { string_value: "0" } }
        optimization { graph { level: 1 } execution_accelerators {
          cpu_execution_accelerator [ { name: "armnn" parameters { key: "a" value: "b" } } ] } }
        model_field_of_next_year: 7
        """
    )
    named = (
        "config.pbtxt: not followed: input, output, dynamic_batching, instance_group.count, instance_group.gpus, "
        "optimization.graph, optimization.execution_accelerators.cpu_execution_accelerator.parameters, "
        "model_field_of_next_year, parameters.session.x, cpu_execution_accelerator 'armnn'"
    )
    assert config.notes == (named,)
    assert (config.most_rows, config.threads, config.device, config.runtimes) == (4, None, None, {})


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", None),
        ("version_policy { latest { num_versions: 2 } }", Policy(latest=2)),
        ("version_policy { latest { } }", Policy(latest=1)),
        ("version_policy { latest { num_versions: 0 } }", Policy(latest=1)),
        ("version_policy { all { } }", Policy()),
        ("version_policy: { specific: { versions: 5 versions: 2 } }", Policy(listed=(2, 5))),
    ],
)
def test_version_policies(text, policy):
    assert triton(text).policy == policy
    entry = tensorflow(f"model_config_list {{ config {{ name: 'a' base_path: 'a' model_{text or 'platform: 1'} }} }}")["a"]
    assert entry.policy == policy


def test_a_model_that_does_not_batch_is_given_one_row_at_a_time():
    assert triton("max_batch_size: 0").most_rows == 0
    assert triton("").most_rows is None


def test_a_group_on_a_gpu_counts_before_one_on_a_cpu():
    config = triton("instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU } ]")
    assert config.device == "cuda"
    assert config.notes == ("config.pbtxt: not followed: instance_group.kind KIND_CPU",)
    assert triton("instance_group { kind: KIND_GPU }").notes == ()


@pytest.mark.parametrize(
    ("text", "what", "found"),
    [
        ("name: 'iris'", "names another model", "iris"),
        ("platform: 'tensorflow_savedmodel'", "not an ONNX model", "tensorflow_savedmodel"),
        ("backend: 'python'", "not an ONNX model", "python"),
        ("default_model_filename: '../x.onnx'", "not the name of a file", "../x.onnx"),
        ("default_model_filename: '..'", "not the name of a file", ".."),
        ("default_model_filename: 'a\\x00b'", "not the name of a file", "a"),
        ("max_batch_size: -1", "'max_batch_size' is not a whole number", "-1"),
        ("max_batch_size: 1 max_batch_size: 2", "'max_batch_size' is not one value", "2 values"),
        ("version_policy { all {} latest {} }", "several version policies", "latest, all"),
        ("version_policy { specific {} }", "names no version", ""),
        ("version_policy { specific { versions: { } } }", "'versions' is not a whole number", "a message"),
        ("version_policy { specific { versions: [-4] } }", "'versions' is not a whole number", "-4"),
        ("version_policy: 3", "'version_policy' is not a message", "3"),
        ("instance_group { kind: KIND_TPU }", "'instance_group.kind' is unknown", "KIND_TPU"),
        (
            "parameters { key: 'intra_op_thread_count' value { string_value: 'many' } }",
            "'parameters.intra_op_thread_count' is not a whole number",
            "many",
        ),
        ("optimization { execution_accelerators { cpu_execution_accelerator: 1 } }", "is not a message", "1"),
    ],
)
def test_what_cannot_be_is_refused(text, what, found):
    with pytest.raises(Refused) as refused:
        triton(text)
    assert what in refused.value.what
    assert found in refused.value.found


def test_models_config_gives_places_policies_and_labels():
    found = tensorflow(
        """
        model_config_list: {
          config: { name: "a", base_path: "/models/x", model_platform: "tensorflow",
            model_version_policy: { latest: { num_versions: 2 } },
            version_labels { key: 'stable', value: 1 }, version_labels { key: 'canary' value: 2 } },
          config: { name: "b", base_path: "y", logging_config {} }
        }
        """
    )
    assert found == {
        "a": Entry("/models/x", Policy(latest=2), {"stable": 1, "canary": 2}, ("models.config: not followed: model_platform",)),
        "b": Entry("y", None, {}, ("models.config: not followed: logging_config",)),
    }
    assert tensorflow("") == {}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("custom_model_config { }", "no list of models"),
        ("model_config_list { config { base_path: 'a' } }", "has no name"),
        ("model_config_list { config { name: 'a' } }", "has no base_path"),
        ("model_config_list { config { name: 'a' base_path: 'a' } config { name: 'a' base_path: 'b' } }", "is named twice"),
        (
            "model_config_list { config { name: 'a' base_path: 'a' version_labels { key: 'x' value: 'y' } } }",
            "'version_labels.x' is not a whole number",
        ),
        ("model_config_list: 1", "is not a message"),
    ],
)
def test_a_models_config_that_cannot_be_is_refused(text, what):
    with pytest.raises(Refused) as refused:
        tensorflow(text)
    assert what in refused.value.what


WORDS = st.sampled_from(
    [
        *("name", "version_policy", "latest", "specific", "versions", "instance_group", "kind", "parameters", "key", "value"),
        *("string_value", "optimization", "execution_accelerators", "cpu_execution_accelerator", "max_batch_size", "other"),
        *("intra_op_thread_count", "model_config_list", "config", "base_path", "model_version_policy", "version_labels"),
    ]
)
TREES = st.recursive(
    st.sampled_from(["1", "-1", "digits", "intra_op_thread_count", ""]),
    lambda inner: st.dictionaries(WORDS, st.lists(inner, max_size=3), max_size=4),
    max_leaves=30,
)


@example({"parameters": [{"key": ["intra_op_thread_count"], "value": []}]})
@given(st.dictionaries(WORDS, st.lists(TREES, max_size=3), max_size=5))
def test_any_fields_have_a_meaning_or_are_refused(fields):
    with contextlib.suppress(Refused):
        assert configs.of_triton(fields, "digits").file_name
    with contextlib.suppress(Refused):
        assert isinstance(configs.of_tensorflow(fields), dict)
