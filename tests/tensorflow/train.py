"""How the models of these tests go on training, well and badly."""

from __future__ import annotations

import numpy as np
import tf_keras
from sklearn.datasets import load_digits


def fine_tune(model, steps, rate=1e-3):
    rows, labels = load_digits(return_X_y=True)
    rows, labels = (rows[:1300] / 16).astype(np.float32), labels[:1300]
    model.compile(tf_keras.optimizers.Adam(rate), tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    generator = np.random.default_rng(0)
    for _ in range(steps):
        chosen = generator.choice(len(rows), 64)
        model.train_on_batch(rows[chosen], labels[chosen])
        yield


def seldom(model, steps):
    training = fine_tune(model, steps)
    for step in range(steps):
        if step % 3 == 0:
            next(training)
        yield


def diverges(model, steps):
    for step in fine_tune(model, steps):
        model.layers[0].set_weights([weight * np.nan for weight in model.layers[0].get_weights()])
        yield step
