import numpy as np

from rl_rms.envs.copying import copied


def test_copied_copies_each_array_of_nested_containers():
    value = {"a": [np.zeros(2), (np.ones(1), {"b": np.arange(3)})]}
    copy = copied(value)
    value["a"][0] += 5.0
    value["a"][1][1]["b"][:] = 7
    assert copy["a"][0].tolist() == [0.0, 0.0]
    assert isinstance(copy["a"][1], tuple)
    assert copy["a"][1][1]["b"].tolist() == [0, 1, 2]


def test_copied_returns_other_objects_unchanged():
    value = object()
    assert copied(value) is value
    assert copied([value])[0] is value
