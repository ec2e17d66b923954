"""Scaled probabilities mean more, say the same, and are the same in ONNX."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.retraining.job.calibrate import scaled, temperature


def test_temperature_of_an_overconfident_model_is_found() -> None:
    """Labels drawn from p, a model that says p squared: the way back is a temperature of two."""
    random = np.random.default_rng(0)
    true = random.dirichlet(np.ones(3), 4000)
    labels = np.array([random.choice(3, p=row) for row in true])
    said = scaled(true, 0.5)
    assert temperature(range(3), said, labels) == pytest.approx(2.0, rel=0.15)
    assert temperature(range(3), true, labels) == pytest.approx(1.0, rel=0.15)


def test_scaling_keeps_rows_whole_and_their_order() -> None:
    """A probability row stays one, and the answer stays the answer."""
    rows = np.random.default_rng(1).dirichlet(np.ones(4), 100)
    for value in (0.3, 1.0, 5.0):
        found = scaled(rows, value)
        assert np.allclose(found.sum(axis=1), 1)
        assert (found.argmax(axis=1) == rows.argmax(axis=1)).all()
    assert temperature([0, 1], rows[:, :2], np.array([7] * 100)) == 1.0
