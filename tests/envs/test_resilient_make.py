import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from rl_rms.envs import ResilientAsyncVectorEnv, ResilientSyncVectorEnv, make_vec
from rl_rms.envs.resilience import set_reaction
from rl_rms.envs.resilient_make import make_resilient_vec
from tests.naming import naming


def test_restart_of_make_vec_keeps_wrappers_and_arguments():
    def wrapped(env):
        return gym.wrappers.TransformReward(env, lambda reward: 3.0 * reward)

    env = make_vec("tests.faulty:Faulty-v0", 2, vectorization_mode="sync", wrappers=[wrapped], at=2)
    set_reaction(env, "restart")
    env.reset(seed=0)
    assert env.step(np.zeros(2, int))[1].tolist() == [3, 3]
    with pytest.warns(UserWarning, match=naming("restarted")):
        env.step(np.zeros(2, int))
    env.step(np.zeros(2, int))
    assert env.step(np.zeros(2, int))[1].tolist() == [3, 3]


@pytest.mark.parametrize(("mode", "kind"), [("sync", ResilientSyncVectorEnv), ("async", ResilientAsyncVectorEnv)])
def test_make_resilient_vec_takes_the_arguments_of_gymnasium(mode, kind):
    options = {"autoreset_mode": AutoresetMode.SAME_STEP}
    env = make_resilient_vec("CartPole-v1", 3, mode, options, max_episode_steps=2)
    assert type(env) is kind
    assert env.num_envs == 3
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.spec.id == "CartPole-v1"
    env.reset(seed=0)
    env.step(np.zeros(3, int))
    assert env.step(np.zeros(3, int))[3].all()
    env.close()


def test_make_resilient_vec_of_a_specification_keeps_it():
    spec = gym.spec("CartPole-v1")
    assert make_resilient_vec(spec, 1, "sync").spec is spec


def test_make_resilient_vec_puts_wrappers_around_each_in_their_order():
    env = make_resilient_vec("CartPole-v1", 2, "sync", wrappers=[gym.wrappers.TimeAwareObservation, gym.Wrapper])
    for sub_env in env.envs:
        layer, kinds = sub_env, []
        while isinstance(layer, gym.Wrapper):
            kinds.append(type(layer).__name__)
            layer = layer.env
        assert kinds.index("Wrapper") + 1 == kinds.index("TimeAwareObservation")
