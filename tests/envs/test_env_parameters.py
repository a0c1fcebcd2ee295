import gymnasium as gym
import pytest

from rl_rms.envs.env_parameters import find_parameters
from tests.naming import naming


class Late(gym.Env):
    """An environment whose first reset creates its parameters."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.engine, self.level = {"power": 1.0}, 3
        return 0, {}


def found(env, *targets, others=()):
    return find_parameters(env, targets, lambda: others)


def test_parameter_is_set_and_read(probe):
    env = probe()
    level = found(env, "level")["level"]
    assert level.owner is level.example is env
    level.setter()(3.0)
    assert env.level == level.value() == 3.0


def test_parameter_that_the_reset_creates_has_the_value_of_an_example():
    env = Late()
    parameters = found(env, "engine.power", "level")
    set_power = parameters["engine.power"].setter()
    set_power(2.0)
    assert not hasattr(env, "engine")
    assert {name: one.value() for name, one in parameters.items()} == {"engine.power": 1.0, "level": 3.0}
    env.reset()
    set_power(2.0)
    assert env.engine["power"] == parameters["engine.power"].value() == 2.0


def test_parameter_of_a_wrapper_belongs_to_the_wrapper(probe):
    env = gym.wrappers.TimeLimit(probe(), 5)
    parameters = found(env, "TimeLimit._max_episode_steps", "level")
    assert [one.owner for one in parameters.values()] == [env, env.unwrapped]


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("nothing", ["'nothing'", "length", "reward.scale"]),
        ("reward.scal", ["'reward.scal'", "did you mean 'reward.scale'"]),
        ("leve", ["'leve'", "did you mean 'level'"]),
        ("metadata", ["'metadata'", "must be a number", "dict"]),
        ("Missing.level", ["'Missing.level'", "wrapper of this name"]),
    ],
)
def test_unknown_target_is_named_with_the_choices(probe, target, named):
    env = probe()
    env.level = 1.0
    with pytest.raises(ValueError, match=naming(*named)):
        found(env, target, others=["reward.scale"])


def test_unknown_attribute_of_a_wrapper_is_named_without_a_missing_wrapper(probe):
    with pytest.raises(ValueError, match=naming("'TimeLimit.nothing'")) as caught:
        found(gym.wrappers.TimeLimit(probe(), 5), "TimeLimit.nothing")
    assert "wrapper of this name" not in str(caught.value)
