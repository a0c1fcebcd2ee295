import pytest

from rl_rms.agents.rollout import Episode
from rl_rms.agents.training_state import TrainingState

EPISODES = [Episode(1.0, 10, 0, 10, None), Episode(4.0, 20, 1, 30, True)]


def test_raise_if_interrupted_raises_once_for_each_interruption():
    training = TrainingState(is_interrupted=True)
    with pytest.raises(KeyboardInterrupt):
        training.raise_if_interrupted()
    training.raise_if_interrupted()


def test_scalars_are_means_over_the_last_episodes():
    training = TrainingState()
    assert training.scalars() == {}
    training.episodes.extend(EPISODES)
    means = {"rollout/ep_rew_mean": 2.5, "rollout/ep_len_mean": 15.0, "rollout/success_rate": 1.0}
    assert training.scalars() == means


def test_loaded_state_has_the_counters_and_episodes():
    training, loaded = TrainingState(num_timesteps=30, num_rollouts=2, num_nonfinite=1), TrainingState()
    training.episodes.extend(EPISODES)
    loaded.load_state_dict(training.state_dict())
    assert loaded == training
