"""Area ``graph``: nothing of the training is left in the model."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from shipworthy.check.graph.view import View, attribute, listed
from shipworthy.check.law import Law
from shipworthy.check.words import title
from shipworthy.records import Finding

RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
LOSSES = ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
# Gradients and optimizers.
DOMAINS = ("ai.onnx.training", "ai.onnx.preview.training", "com.microsoft.training")
RATIO, MODE = 1, 2

TRAINING = Law(
    name="graph.training",
    severity="error",
    holds="no Dropout or BatchNormalization is in training mode",
    breaks="answers depend on chance, or on the other rows of a batch",
    mend="export the model in evaluation mode (torch: model.eval() before the export; Keras: training=False)",
)
LOSS = Law(
    name="graph.loss",
    severity="warning",
    holds="no loss, gradient or optimizer step is computed",
    breaks="callers must send labels, and pay for what nobody reads",
    mend="export the network without its loss",
)
RANDOM_OPERATORS = Law(
    name="graph.random",
    severity="warning",
    holds="no operator draws random numbers",
    breaks="the same request gets different answers, so that no answer can be checked or cached",
    mend="give the noise as an input, or take it out of the exported graph",
)
LAWS = (TRAINING, LOSS, RANDOM_OPERATORS)


def look(seen: View) -> Iterator[Finding]:
    """Everything that a training needs and a server does not."""
    for node in seen.every:
        if node.op_type == "BatchNormalization" and attribute(node, "training_mode"):
            yield TRAINING.found(title(node), "training_mode is 1: it normalizes by the rows of the batch")
        elif node.op_type == "Dropout" and len(node.input) > MODE and node.input[MODE]:
            yield from _dropout(node, seen)
    losses = [one for one in seen.every if one.op_type in LOSSES or one.domain in DOMAINS]
    if losses:
        yield LOSS.found(title(losses[0]), f"{len(losses)} nodes of a training: {listed(losses)}")
    drawn = [one for one in seen.every if one.op_type in RANDOM and one.domain in ("", "ai.onnx")]
    if drawn:
        yield RANDOM_OPERATORS.found(title(drawn[0]), f"{len(drawn)} nodes draw random numbers: {listed(drawn)}")


def _dropout(node: onnx.NodeProto, seen: View) -> Iterator[Finding]:
    mode = seen.constant(node.input[MODE])
    ratio = seen.constant(node.input[RATIO]) if node.input[RATIO] else None
    if mode is None:
        evidence = f"whether it drops values is decided by '{node.input[MODE]}' while the model runs"
        yield TRAINING.found(title(node), evidence, severity="warning")
    elif mode.any() and (ratio is None or ratio.any()):
        yield TRAINING.found(title(node), "training_mode is true: it drops values by chance")
