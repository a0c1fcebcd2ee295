import numpy as np
import pytest

from rl_rms.envs.encoding import decode, encode
from tests.envs.lives import through_json
from tests.naming import naming


def test_encode_and_decode_keep_the_type_of_numbers():
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


@pytest.mark.parametrize("dtype", ["|b1", "<i8", ">i4", "<u2", "<f2", "<f8"])
def test_decode_of_an_array_copies_it_with_dtype_and_shape(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    back = decode(through_json(encode(array)))
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)
    back[0, 0] = 1  # is writeable


@pytest.mark.parametrize("array", [np.zeros((0, 3)), np.array(2.5), np.arange(6).reshape(2, 3).T])
def test_decode_of_an_array_of_any_layout_is_equal(array):
    back = decode(through_json(encode(array)))
    assert back.shape == array.shape
    assert np.array_equal(back, array)


@pytest.mark.parametrize(
    "value", [{"dtype": "x"}, {"float": 1}, {"tuple": []}, {3: "a", (1, 2): None}, [b"", b"\x00\xff"]]
)
def test_decode_of_dictionaries_with_any_keys_and_bytes_is_equal(value):
    assert decode(through_json(encode(value))) == value


@pytest.mark.parametrize("value", [1j, {1, 2}, np.array(["x"]), np.array([object()]), np.datetime64("2020")])
def test_encode_of_other_values_names_the_type(value):
    with pytest.raises(ValueError, match=naming(type(value).__name__, "JSON")):
        encode([value])


@pytest.mark.parametrize(
    "data",
    [
        {"dtype": "|O", "shape": [1], "base64": ""},
        {"dtype": "<f8", "shape": [2], "base64": "AAAAAAAAAAA="},
        {"dtype": "<f8", "shape": [1], "base64": "?"},
        {"dtype": "<U1", "number": "x"},
    ],
)
def test_decode_of_damaged_numbers_raises_value_error(data):
    with pytest.raises(ValueError, match=r"."):
        decode(data)
