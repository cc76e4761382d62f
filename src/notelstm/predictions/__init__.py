"""What heads say of a field: ``Categorical``, ``Point``, ``Normal`` and ``LogisticMixture``.

All are values: each method returns a new one. Draws use the inverse distribution function of
uniforms given from outside, so equal predictions and equal noise give equal draws, alone or in a
batch. Shapes: any leading shape (...), classes last.
``Plain...`` are the same for one lane, in plain numbers.
"""

from notelstm.predictions.categorical import Categorical
from notelstm.predictions.logistic_mixture import LogisticMixture
from notelstm.predictions.normal import Normal
from notelstm.predictions.plain import PlainCategorical, PlainNormal, PlainOther, PlainPoint
from notelstm.predictions.point import Point

__all__ = [
    "Categorical",
    "LogisticMixture",
    "Normal",
    "PlainCategorical",
    "PlainNormal",
    "PlainOther",
    "PlainPoint",
    "Point",
]
