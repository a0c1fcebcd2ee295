import numpy as np
import pytest

from rl_rms.agents import A2C, evaluate
from rl_rms.envs import make_vec
from tests.agents.returns import RANDOM_RETURN, below


@pytest.mark.parametrize("vectorization_mode", ["vector_entry_point", "sync"])
def test_a2c_on_cartpole_reaches_the_return(vectorization_mode):
    env = make_vec("CartPole-v1", num_envs=16, vectorization_mode=vectorization_mode)
    agent = A2C(env, learning_rate=2e-3, seed=1).learn(60_000, below(8 * RANDOM_RETURN))
    assert np.mean([episode.ret for episode in agent.episodes]) > 5 * RANDOM_RETURN
    assert evaluate(agent, "CartPole-v1", 10, seed=5).mean_reward > 8 * RANDOM_RETURN


def test_half_life_in_steps_counts_valid_transitions_of_each_update():
    agent = A2C(make_vec("CartPole-v1", num_envs=8), half_life="400 steps", n_steps=5, seed=0).learn(4_000)
    # An update has 40 env steps, or fewer if it includes reset frames.
    assert agent.optimizer.steps_per_update <= 40
    assert agent.optimizer.half_life == pytest.approx(400 / agent.optimizer.steps_per_update)
    assert agent.describe_half_life() == "half-life 10.0 updates = 400 env steps (40 env steps per update)"


def test_steps_per_update_leaves_out_reset_frames(counting):
    # Episodes have two steps and then a reset frame, so three vector steps have two env steps per sub-environment.
    agent = A2C(counting([(2, True), (2, False)]), n_steps=3, half_life="8 steps", seed=0).learn(20)
    assert agent.optimizer.steps_per_update == 4
    assert agent.optimizer.half_life == 2.0
