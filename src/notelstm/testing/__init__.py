"""Contract checks and Hypothesis strategies for authors of plugins.

Install the extra ``testing``. In a plugin's tests::

    from notelstm.testing import check_encoder

    def test_my_encoder():
        check_encoder(MyEncoder(), onset_tolerance=0.005)

A check raises an AssertionError at the first broken clause; its message names the clause.
"""

from importlib.util import find_spec

from notelstm.errors import MissingExtraError

if find_spec("hypothesis") is None:
    raise MissingExtraError(
        "notelstm.testing needs hypothesis", hint="run pip install 'notelstm[testing]'"
    )

# The modules below import hypothesis, so they come after the check.
from notelstm.testing import strategies
from notelstm.testing.anticipation_checks import check_anticipating_encoder
from notelstm.testing.encoder_checks import check_encoder
from notelstm.testing.loss_checks import check_loss_term
from notelstm.testing.makers import long_piece, random_rows, without_overlaps
from notelstm.testing.model_checks import check_model
from notelstm.testing.reader_checks import check_reader
from notelstm.testing.sampling_checks import check_processor, check_sampler

__all__ = [
    "check_anticipating_encoder",
    "check_encoder",
    "check_loss_term",
    "check_model",
    "check_processor",
    "check_reader",
    "check_sampler",
    "long_piece",
    "random_rows",
    "strategies",
    "without_overlaps",
]
