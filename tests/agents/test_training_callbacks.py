from rl_rms.agents import A2C, AdaptationCallback, EvalCallback
from rl_rms.agents.callbacks import Callback
from rl_rms.agents.progress import ProgressCallback
from rl_rms.agents.training_callbacks import training_callbacks
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Step


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
