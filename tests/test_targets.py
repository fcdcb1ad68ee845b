"""The kinds of targets, and what a machine says of one that names no kind."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from shipworthy import machine
from shipworthy.records import RUNTIMES, Machine, Target
from shipworthy.targets import KINDS, fit, is_here

X86 = Machine(cpu="", isa=("avx2",), cores=2, memory_mb=1, system="Linux x86_64", python="", packages={})


def test_every_kind_is_whole():
    for name, kind in KINDS.items():
        assert (kind.name, kind.kind) == (name, name)
        assert kind.device in RUNTIMES[kind.runtime]
        assert kind.precisions[0] == "float32"
        assert (kind.int8 == "s8s8_symmetric") == (kind.device == "cuda")


@pytest.mark.parametrize(
    ("here", "precisions", "int8"),
    [
        (X86, ("float32",), "u8s8_reduced"),
        (replace(X86, isa=("avx2", "avx_vnni")), ("float32", "int8"), "u8s8"),
        (replace(X86, isa=("avx512f", "avx512_vnni", "avx512_bf16")), ("float32", "bfloat16", "int8"), "u8s8"),
        (replace(X86, isa=("amx_bf16", "amx_int8", "avx512_vnni")), ("float32", "bfloat16", "int8"), "u8s8"),
        (replace(X86, isa=("asimd",), system="Linux aarch64"), ("float32", "int8"), "s8s8"),
        (replace(X86, isa=("asimd", "bf16"), system="Linux aarch64"), ("float32", "bfloat16", "int8"), "s8s8"),
    ],
)
def test_a_cpu_is_what_its_instructions_say(here, precisions, int8):
    fitted = fit(Target(name="a", threads=3, memory_mb=7.0), here)
    assert fitted == Target(name="a", threads=3, memory_mb=7.0, precisions=precisions, int8=int8)


def test_a_kind_that_was_named_and_a_gpu_do_not_depend_on_this_cpu():
    for kind in KINDS.values():
        assert fit(kind, X86) is kind
    assert fit(Target(device="cuda"), X86).int8 == "s8s8_symmetric"


def test_this_machine_has_a_fit():
    assert "float32" in fit(Target(), machine.describe()).precisions


ARM = replace(X86, isa=("asimd",), system="Linux aarch64")
VNNI = replace(X86, isa=("avx2", "avx512_vnni"))
A100 = replace(X86, gpus=("NVIDIA A100-SXM4-80GB",))
ORIN = replace(ARM, gpus=("NVIDIA Jetson AGX Orin Developer Kit",))
XAVIER = replace(ARM, gpus=("Jetson-AGX Xavier",))


@pytest.mark.parametrize(
    ("kind", "here"),
    [
        ("cpu-x86-vnni", [VNNI]),
        ("cpu-x86", [X86, VNNI, A100]),
        ("cpu-arm", [ARM, ORIN, XAVIER]),
        ("openvino-cpu", [X86, VNNI, ARM, A100, ORIN, XAVIER]),
        ("cuda", [A100, ORIN, XAVIER]),
        ("tensorrt-10", [A100, ORIN, XAVIER]),
        ("tensorrt-11", [A100, ORIN, XAVIER]),
        ("jetson-orin", [ORIN]),
        ("jetson-agx-xavier", [XAVIER]),
    ],
)
def test_where_figures_of_a_kind_are_taken(kind, here):
    for one in (X86, VNNI, ARM, A100, ORIN, XAVIER):
        assert (is_here(KINDS[kind], one) == "") == (one in here), (one.isa, one.gpus)


def test_why_it_is_not_here():
    assert is_here(KINDS["cuda"], X86) == "it has no NVIDIA GPU that the kernel tells of"
    assert is_here(KINDS["jetson-orin"], A100) == "it is no Orin: its GPU is NVIDIA A100-SXM4-80GB"
    assert is_here(KINDS["cpu-arm"], X86) == "it is no ARM: Linux x86_64"
    assert is_here(KINDS["cpu-x86"], ARM) == "it is no x86: Linux aarch64"
    assert is_here(KINDS["cpu-x86-vnni"], X86) == "its CPU has no VNNI"


def test_a_target_of_ones_own_is_where_its_kind_is():
    mine = replace(KINDS["jetson-orin"], name="robot", threads=4)
    assert is_here(mine, ORIN) == ""
    assert is_here(mine, X86) != ""
    assert is_here(Target(name="mine"), X86) == is_here(Target(name="mine"), ARM) == ""
