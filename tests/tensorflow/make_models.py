"""Trains and writes the models of these tests, in a process of its own: ``python make_models.py FOLDER``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import keras
import numpy as np
import tf_keras
from sklearn.datasets import load_digits

import tensorflow as tf

TRAINED = 1300


def main() -> None:
    """Write the models, the rows to judge them on, and how good they are."""
    folder = Path(sys.argv[1])
    rows, labels = load_digits(return_X_y=True)
    rows = (rows / 16).astype(np.float32)
    keras.utils.set_random_seed(0)
    tf_keras.utils.set_random_seed(0)
    accuracy = {"conv": convolutions(folder, rows, labels), "old": matrices(folder, rows, labels)}
    shapes(folder)
    code(folder)
    graphs(folder)
    few = tf_keras.Sequential(
        [tf_keras.layers.Embedding(2000, 8, input_length=4), tf_keras.layers.Flatten(), tf_keras.layers.Dense(2)]
    )
    few.save(folder / "few.keras")
    np.savez(folder / "digits.npz", rows=rows[TRAINED:], labels=labels[TRAINED:])
    (folder / "accuracy.json").write_text(json.dumps(accuracy))


def convolutions(folder: Path, rows: np.ndarray, labels: np.ndarray) -> float:
    """A small network of Keras 3 for images; gives the share of unseen rows that it gets right."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.1),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    images = rows.reshape(-1, 8, 8, 1)
    model.fit(images[:TRAINED], labels[:TRAINED], epochs=12, batch_size=64, verbose=0)
    model.save(folder / "conv.keras")
    model.export(folder / "conv_saved", verbose=False)
    return float((model.predict(images[TRAINED:], verbose=0).argmax(1) == labels[TRAINED:]).mean())


def matrices(folder: Path, rows: np.ndarray, labels: np.ndarray) -> float:
    """A small network of Keras 2; gives the share of unseen rows that it gets right."""
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            tf_keras.Input((64,), name="pixels"),
            layers.Dense(128, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    model.compile("adam", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(rows[:TRAINED], labels[:TRAINED], epochs=15, batch_size=64, verbose=0)
    model.save(folder / "old.keras")
    model.save(folder / "old.h5")
    return float((model.predict(rows[TRAINED:], verbose=0).argmax(1) == labels[TRAINED:]).mean())


def shapes(folder: Path) -> None:
    """Several inputs and outputs, by name and by place; a fixed number of rows."""
    layers = keras.layers
    image, kind = keras.Input((4,), name="image"), keras.Input((), dtype="int32", name="kind")
    joined = layers.Dense(4)(image) + layers.Embedding(5, 4)(kind)
    late, early = layers.Dense(3)(joined), layers.Softmax()(joined)
    keras.Model({"kind": kind, "image": image}, {"late": late, "early": early}).save(folder / "named.keras")
    keras.Model([kind, image], [late, early]).save(folder / "placed.keras")
    fixed = keras.Input(batch_shape=(8, 4), name="x")
    keras.Model(fixed, layers.Dense(3)(fixed)).save(folder / "fixed.keras")


def code(folder: Path) -> None:
    """Models with Python of their own: a Lambda that leaves a file when it runs, and a layer of the user's."""
    mark = folder / "executed"
    layer = keras.layers.Lambda(eval(f"lambda x: (open({str(mark)!r}, 'w').close(), x * 2)[1]"))  # noqa: S307
    keras.Sequential([keras.Input((4,), name="x"), layer]).save(folder / "lambda.keras")
    mark.unlink()

    @keras.saving.register_keras_serializable(package="mine")
    class Twice(keras.layers.Layer):
        def call(self, x: object) -> object:
            return x * 2

    keras.Sequential([keras.Input((4,), name="x"), Twice()]).save(folder / "custom.keras")


def graphs(folder: Path) -> None:
    """SavedModels: texts, which have no ONNX form here, and two functions none of which is the one."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def words(text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"hash": tf.strings.to_hash_bucket_fast(text, 7)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def twice(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 2 * x}

    module = tf.Module()
    module.words, module.twice = words, twice
    tf.saved_model.save(module, str(folder / "words"), {"serving_default": words})
    tf.saved_model.save(module, str(folder / "two"), {"words": words, "twice": twice})
    tf.saved_model.save(module, str(folder / "one"), {"twice": twice})


if __name__ == "__main__":
    main()
