"""A model of one node, and what was found, as the tests of several areas have them."""

from __future__ import annotations

from onnx import helper

X, Y = ("x", "float32", [None, 2]), ("y", "float32", [None, 2])


def relu():
    return [helper.make_node("Relu", ["x"], ["y"])]


def said(findings):
    return [(finding.severity, finding.place) for finding in findings]
