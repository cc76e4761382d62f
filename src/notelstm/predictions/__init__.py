"""Predictions of a field: ``Categorical``, ``PointEstimate``, ``Normal``, ``LogisticMixture``.

Predictions are immutable. They sample by the inverse distribution function of uniforms that the
caller gives, so that equal predictions and equal noise give equal samples, alone or in a batch.
Shapes are any leading shape (...), with classes last. The ``Numpy...`` classes are the same for one
sequence in numpy.
"""

from notelstm.predictions.categorical import Categorical, NumpyCategorical, NumpyPrediction
from notelstm.predictions.numeric import (
    LogisticMixture,
    Normal,
    NumpyAdapter,
    NumpyNormal,
    PointEstimate,
    PointToNormal,
)

__all__ = [
    "Categorical",
    "LogisticMixture",
    "Normal",
    "NumpyAdapter",
    "NumpyCategorical",
    "NumpyNormal",
    "NumpyPrediction",
    "PointEstimate",
    "PointToNormal",
]
