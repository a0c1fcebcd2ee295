import gymnasium as gym
import pytest

from rl_rms.agents import A2C, AdaptationCallback, Callback, EvalCallback, Reinforce
from rl_rms.agents.progress import ProgressCallback
from rl_rms.agents.trainer import training_callbacks
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Step


class Recorder(Callback):
    """Records its calls, and stops the training after some updates."""

    def __init__(self, updates=10**9):
        self.calls, self.updates = [], updates

    def on_training_start(self, agent, logger):
        self.calls.append(("start", agent.num_timesteps))

    def on_update(self, agent, logger):
        self.calls.append(("update", agent.num_timesteps))
        return agent.num_updates < self.updates

    def on_training_end(self, agent, logger):
        self.calls.append(("end", agent.num_timesteps))


def test_train_calls_the_callback_around_every_update():
    recorder = Recorder()
    A2C(gym.make_vec("CartPole-v1", 2), n_steps=5, seed=0).learn(20, recorder)
    names, steps = zip(*recorder.calls, strict=True)
    assert names == ("start", *["update"] * (len(names) - 2), "end")
    assert steps[0] == 0
    assert list(steps) == sorted(steps)
    assert steps[-1] >= 20 > steps[-3]


def test_train_stops_after_the_update_whose_callback_returns_false():
    agent = A2C(gym.make_vec("CartPole-v1", 2), seed=0).learn(10**9, Recorder(3))
    assert agent.num_updates == 3


def test_train_after_an_error_in_a_rollout_begins_new_episodes():
    class Broken(gym.Wrapper):
        broken = False

        def step(self, action):
            if self.broken:
                raise RuntimeError("out of order")
            return super().step(action)

    env = Broken(gym.make("CartPole-v1"))
    agent = A2C(env, n_steps=3, seed=0).learn(3)
    env.broken = True
    with pytest.raises(RuntimeError, match="out of order"):
        agent.learn(3)
    assert not agent.session.started
    env.broken = False
    before = agent.num_updates
    assert agent.learn(3).num_updates > before


def test_collect_of_whole_episodes_begins_new_episodes(counting):
    trainer = Reinforce(counting([(3, False)]), seed=0).make_trainer()
    for _ in range(2):
        rollout, state = trainer.collect()
        assert rollout.starts[0].all()
        assert rollout.observations[:4, 0, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
        assert state is None


def test_train_logs_the_first_every_nth_and_the_last_update(tmp_path):
    A2C(gym.make_vec("CartPole-v1", 2), n_steps=5, seed=0).learn(100, log_dir=tmp_path, log_interval=4)
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    updates = [float(row.split(",")[header.split(",").index("train/n_updates")]) for row in rows]
    assert updates[0] == 1.0
    assert updates[1] == 4.0
    assert all(one % 4 == 0 for one in updates[1:-1])


def test_interrupt_ends_the_training_after_the_update():
    agent = A2C(gym.make_vec("CartPole-v1", 2), seed=0)
    with pytest.raises(KeyboardInterrupt):
        agent.learn(10**9, lambda trained: trained.interrupt())
    assert agent.num_updates == 1
    assert not agent.learner.is_half_stepped
    agent.training.raise_if_interrupted(agent.workers)  # does not raise again


def kinds(agent, callback=None, *, logs=False, progress_bar=False):
    return [type(one) for one in training_callbacks(agent, callback, logs=logs, progress_bar=progress_bar)]


def test_training_with_a_log_of_regimes_begins_with_one_adaptation_callback():
    agent = A2C(make_vec("CartPole-v1", 2, {"gravity": Step(9.8, 5.0, at=100)}, seed=0), seed=0)
    assert kinds(agent, Callback(), logs=True) == [AdaptationCallback, Callback]
    assert kinds(agent, [Callback(), AdaptationCallback()], logs=True) == [Callback, AdaptationCallback]
    assert kinds(agent, Callback()) == [Callback]


def test_training_without_regimes_has_the_given_callbacks_and_a_progress_bar_on_demand():
    agent = A2C("CartPole-v1", seed=0)
    assert kinds(agent, Callback(), logs=True) == [Callback]
    assert kinds(agent, progress_bar=True) == [ProgressCallback]


def test_training_with_a_progress_bar_shows_evaluations(monkeypatch, capsys):
    monkeypatch.setattr("rl_rms.agents.progress._SECONDS_BETWEEN_LINES", 0.0)
    evaluation = EvalCallback(every=200, episodes=3)
    A2C(make_vec("CartPole-v1", 2, seed=0), seed=0).learn(200, evaluation, progress_bar=True)
    assert "evaluation 2 / 3 episodes" in capsys.readouterr().out
    assert evaluation.progress is None
