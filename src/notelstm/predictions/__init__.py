"""Predictions of a field: ``Categorical``, ``PointEstimate``, ``Normal``, ``LogisticMixture``.

All are values: each method returns a new one. Draws use the inverse distribution function of
uniforms given from outside, so equal predictions and equal noise give equal draws, alone or in a
batch. Shapes: any leading shape (...), classes last.
``Numpy...`` are the same for one sequence, in numpy.
"""

from notelstm.predictions.categorical import Categorical
from notelstm.predictions.logistic_mixture import LogisticMixture
from notelstm.predictions.normal import Normal
from notelstm.predictions.numpy_predictions import (
    NumpyAdapter,
    NumpyCategorical,
    NumpyNormal,
    NumpyPoint,
    NumpyPrediction,
)
from notelstm.predictions.point import PointEstimate

__all__ = [
    "Categorical",
    "LogisticMixture",
    "Normal",
    "NumpyAdapter",
    "NumpyCategorical",
    "NumpyNormal",
    "NumpyPoint",
    "NumpyPrediction",
    "PointEstimate",
]
