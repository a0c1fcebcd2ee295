import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_rms.envs.parameters import find_parameter
from tests.examples import fewer
from tests.naming import naming


@pytest.mark.parametrize("rate", [0.8, 1.0, 0.0])
def test_frozen_lake_table_equals_that_of_a_new_environment(rate):
    for slippery in (True, False):
        env = gym.make("FrozenLake-v1", is_slippery=slippery).unwrapped
        assert find_parameter(env, "success_rate").value(env) == (1 / 3 if slippery else 1.0)
        find_parameter(env, "success_rate").setter(env)(rate)
        assert gym.make("FrozenLake-v1", success_rate=rate).unwrapped.P == env.P


def test_cliff_walking_table_equals_the_slippery_one():
    env = gym.make("CliffWalking-v1").unwrapped
    find_parameter(env, "success_rate").setter(env)(1 / 3)
    end = 47
    for state, rows in gym.make("CliffWalking-v1", is_slippery=True).unwrapped.P.items():
        for action, row in rows.items():
            assert state == end or [one[1:] for one in env.P[state][action]] == [one[1:] for one in row]
            assert state == end or [one[0] for one in env.P[state][action]] == pytest.approx([1 / 3] * 3)


@pytest.mark.skipif("Taxi-v4" not in gym.registry, reason="Taxi-v4 needs Gymnasium 1.3")
def test_taxi_table_equals_that_of_a_new_environment():
    env = gym.make("Taxi-v4", is_rainy=True).unwrapped
    find_parameter(env, "rainy_probability").setter(env)(0.6)
    assert gym.make("Taxi-v4", is_rainy=True, rainy_probability=0.6).unwrapped.P == env.P
    for name, said in {
        "rainy_probability": "is_rainy=True",
        "fickle_probability": "fickle_passenger=True",
    }.items():
        with pytest.raises(ValueError, match=naming(f"'{name}'", "nothing", said)):
            find_parameter(gym.make("Taxi-v4").unwrapped, name)


LAKE = gym.make("FrozenLake-v1").unwrapped


@given(rates=st.lists(st.floats(0, 1), min_size=1, max_size=3))
@fewer(2)
def test_probabilities_of_every_table_sum_to_one(rates):
    for rate in rates:
        find_parameter(LAKE, "success_rate").setter(LAKE)(rate)
    assert find_parameter(LAKE, "success_rate").value(LAKE) == rates[-1]
    for state, rows in LAKE.P.items():
        for row in rows.values():
            assert sum(one[0] for one in row) == pytest.approx(1.0, abs=1e-12)
            if LAKE.desc.ravel()[state] in b"GH":
                assert row == [(1.0, state, 0, True)]
