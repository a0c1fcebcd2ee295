import math
from functools import partial

import numpy as np
import pytest

from rl_rms.agents import A2C, Callback, CheckpointCallback, EvalCallback, HistogramCallback
from rl_rms.agents.adversarial import RobustTraining
from rl_rms.agents.federated_config import FederationConfig
from rl_rms.agents.progress import ProgressCallback
from rl_rms.envs import make_vec
from rl_rms.envs.pushes import PushedCartPole
from tests.naming import naming


def agent():
    return A2C(make_vec("CartPole-v1", num_envs=4), seed=0)


def test_learn_function_as_callback_stops_the_training():
    trained = agent().learn(10_000, lambda agent: agent.num_timesteps < 300)
    assert 300 <= trained.num_timesteps < 320


@pytest.mark.parametrize("answer", [0, 0.0, None, True, np.zeros(2), np.array([False]), [], "", np.True_])
def test_learn_callback_that_does_not_return_false_continues(answer):
    trained = agent().learn(200, [lambda agent: answer, lambda agent: None])
    assert trained.num_timesteps >= 200


@pytest.mark.parametrize("answer", [False, np.False_])
def test_learn_callback_returns_false_stops_after_one_update(answer):
    assert agent().learn(200, lambda agent: answer).num_updates == 1


def test_learn_callback_returns_a_count_of_zero_continues():
    assert agent().learn(200, lambda agent: agent.num_nonfinite).num_timesteps >= 200


def test_callback_list_calls_all_callbacks_although_one_stops():
    calls = []

    class Recorder(Callback):
        def __init__(self, name):
            self.name = name

        def on_training_start(self, agent, logger):
            calls.append((self.name, "start"))

        def on_update(self, agent, logger):
            calls.append((self.name, "update"))
            return self.name != "first"

        def on_training_end(self, agent, logger):
            calls.append((self.name, "end"))

    agent().learn(10_000, [Recorder("first"), Recorder("second")])
    assert calls == [(name, when) for when in ("start", "update", "end") for name in ("first", "second")]


def make_robust_training(turn=100, seed=0):
    return RobustTraining(lambda: PushedCartPole(2), turn=turn, seed=seed)


WHOLE = [
    (partial(CheckpointCallback, "checkpoints"), "every"),
    (partial(CheckpointCallback, "checkpoints", 100), "keep"),
    (EvalCallback, "every"),
    (EvalCallback, "episodes"),
    (EvalCallback, "patience"),
    (HistogramCallback, "every"),
    (ProgressCallback, "every"),
    (make_robust_training, "turn"),
    (PushedCartPole, "num_envs"),
    (partial(make_vec, "CartPole-v1"), "num_envs"),
]


FLAGS = [
    (EvalCallback, "deterministic"),
    (partial(HistogramCallback, 100), "at_end"),
    (FederationConfig, "weighted"),
]


@pytest.mark.parametrize(("make", "name"), WHOLE)
def test_constructor_with_a_wrong_whole_number_names_it(make, name):
    for value in ("3", True, np.True_, 0, -1, 2.5, math.nan, math.inf, [3]):
        with pytest.raises(ValueError, match=naming(name, repr(value))):
            make(**{name: value})


@pytest.mark.parametrize(("make", "name"), WHOLE)
def test_constructor_takes_numpy_integers_and_whole_floats(make, name):
    for value in (np.int64(3), np.uint8(3), 3.0):
        made = make(**{name: value})
        assert type(getattr(made, name, 3)) is int
        assert getattr(made, name, 3) == 3


@pytest.mark.parametrize(("make", "name"), FLAGS)
@pytest.mark.parametrize("value", ["false", 2, None, [True]])
def test_constructor_with_a_wrong_flag_names_it(make, name, value):
    with pytest.raises(ValueError, match=naming(name, repr(value))):
        make(**{name: value})
    make(**{name: np.True_})


def test_periodic_callback_resumed_run_acts_at_the_same_multiples(tmp_path):
    agent = A2C("CartPole-v1", n_steps=5, seed=0).learn(170)
    agent.learn(300, callback=CheckpointCallback(tmp_path, every=100))
    steps = [int(file.stem.split("_")[1]) for file in sorted(tmp_path.glob("step_*"))]
    assert [step // 100 for step in steps] == [2, 3, 4]
    assert all(step % 100 < 6 for step in steps)


def test_callback_list_end_with_errors_calls_all_and_raises_the_first():
    ended = []

    class Ending(Callback):
        def __init__(self, name):
            self.name = name

        def on_training_end(self, agent, logger):
            ended.append(self.name)
            raise RuntimeError(self.name)

    with pytest.raises(RuntimeError, match="first"):
        A2C("CartPole-v1", seed=0).learn(10, [Ending("first"), Ending("second")])
    assert ended == ["first", "second"]
