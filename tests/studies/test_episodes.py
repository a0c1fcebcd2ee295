from rl_rms.agents import A2C
from rl_rms.envs import make_vec
from rl_rms.studies.episodes import episode_returns


def agent():
    return A2C(make_vec("CartPole-v1", num_envs=2), seed=0)


def test_episode_returns_are_those_of_the_agents_episodes_in_order():
    trained = agent()
    returns = episode_returns(trained, 600)
    assert trained.num_timesteps >= 600
    assert len(returns) > 5
    assert returns == [episode.ret for episode in trained.episodes]


def test_episode_returns_since_an_env_step_leave_out_earlier_episodes():
    trained = agent()
    returns = episode_returns(trained, 600, since=300)
    assert returns == [episode.ret for episode in trained.episodes if episode.num_timesteps > 300]
    assert 0 < len(returns) < len(trained.episodes)
