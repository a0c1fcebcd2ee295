"""Numbers, arrays and containers as plain JSON data."""

import numpy as np
import pytest

from rl_rms.envs.encoding import decode, encode
from tests.envs.lives import through_json
from tests.naming import naming


def test_numbers_keep_their_kinds():
    kept = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
        3: (np.int64(4), [None, True, "x", 0.1], {"deep": np.float64(1 / 3)}),
    }
    back = decode(through_json(encode(kept)))
    assert back["a"].dtype == np.float32
    assert np.array_equal(back["a"], kept["a"])
    assert back[3] == kept[3]
    assert type(back[3][0]) is np.int64
    wild = (np.array([[np.nan, np.inf], [-np.inf, 0.1]], np.float32), np.float64(np.inf), float("nan"))
    array, number, plain = decode(through_json(encode(wild)))
    assert np.array_equal(array, wild[0], equal_nan=True)
    assert (array.dtype, number) == (np.float32, np.inf)
    assert type(plain) is float
    assert np.isnan(plain)
    with pytest.raises(ValueError, match=naming("type object", "JSON")):
        encode([object()])
