import csv
import math

import pytest

from rl_rms.agents import A2C, AdaptationCallback, EvalCallback
from rl_rms.agents.adaptation import regime_of
from rl_rms.agents.callbacks import CallbackList
from rl_rms.agents.rollout import Episode
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import PiecewiseConstant
from tests.naming import naming


def episodes(returns, start=0, every=10):
    """Episodes of equal length with the given returns."""
    return [Episode(ret, every, 0, start + every * (i + 1)) for i, ret in enumerate(returns)]


def test_regime_statistics_equal_hand_computed_values():
    # 100 episodes from env step 1000 to 2000. The returns are 0 in the first tenth, 100 in the last, else 50.
    regime = regime_of(
        3, episodes([0.0] * 10 + [50.0] * 80 + [100.0] * 10, start=1_000), 1_000, 2_000, before=50.0
    )
    assert regime.number == 3
    assert (regime.first_tenth, regime.last_tenth, regime.mean) == (0.0, 100.0, 50.0)
    # The mean of the last 20 returns reaches 45 when 18 of them are 50, after 28 episodes of 10 steps.
    assert regime.recovery == 280


@pytest.mark.parametrize(
    ("returns", "before", "recovery"),
    [
        ([-100.0] * 10 + [-55.0] * 30, -50.0, 300),  # -55 is 110 % of -50
        ([-100.0] * 10 + [-56.0] * 30, -50.0, math.inf),
        ([49.0] * 20, 100.0, math.inf),
        ([50.0] * 19, 50.0, math.nan),  # fewer than 20 episodes
        ([45.0] * 20, 50.0, 0),
        ([44.0] * 10 + [45.0] * 30, 50.0, 300),
        ([50.0] * 10 + [0.0] * 10 + [50.0] * 30, 50.0, 380),
    ],
)
def test_recovery_equals_hand_computed_values(returns, before, recovery):
    assert regime_of(1, episodes(returns), 0, 1_000, before).recovery == pytest.approx(recovery, nan_ok=True)


def test_recovery_of_the_first_regime_is_none_and_mean_without_episodes_is_none():
    assert math.isnan(regime_of(0, episodes([1.0] * 30), 0, 300, math.nan).recovery)
    empty = regime_of(1, [], 0, 300, 1.0)
    assert all(math.isnan(one) for one in (empty.mean, empty.first_tenth, empty.last_tenth))


def test_adaptation_callback_logs_each_regime_at_its_end(tmp_path):
    # The rewards are 1, 5 and 2, so the second regime is the best and the first regime is the worst.
    scale = PiecewiseConstant([(0, 1.0), (1_000, 5.0), (2_000, 2.0)])
    env = make_vec("CartPole-v1", 4, {"reward.scale": scale}, seed=0)
    callback, ended = AdaptationCallback(), []
    callbacks = [callback, lambda agent: ended.extend(agent.new_episodes)]
    A2C(env, learning_rate=1e-9, seed=0).learn(3_000, callbacks, log_dir=tmp_path)
    assert [round(one.start / 1_000) for one in callback.regimes] == [0, 1, 2]
    assert [round(one.end / 1_000) for one in callback.regimes] == [1, 2, 3]
    means = [one.mean for one in callback.regimes]
    assert means[1] > 1.5 * means[2] > 2.0 * means[0]
    assert callback.worst is callback.regimes[0]
    assert [one.number for one in callback.regimes] == [0, 1, 2]
    assert callback.regimes[1].recovery == 0  # better immediately
    assert math.isinf(callback.regimes[2].recovery)
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["adaptation/mean"]]
    assert [float(row["adaptation/mean"]) for row in rows] == pytest.approx(means)
    assert [float(row["adaptation/regime"]) for row in rows] == [0, 1, 2]
    assert sum(float(row["adaptation/episodes"]) for row in rows) == len(ended)
    assert float(rows[1]["adaptation/recovery_steps"]) == 0
    assert rows[2]["adaptation/recovery_steps"] == ""
    assert [float(row["adaptation/worst_mean"]) for row in rows] == pytest.approx([means[0]] * 3)


def test_adaptation_callback_env_without_regimes_raises():
    with pytest.raises(ValueError, match=naming("AdaptationCallback", "regimes")):
        A2C("CartPole-v1").learn(10, AdaptationCallback())


def jumping():
    return make_vec("CartPole-v1", 2, {"length": PiecewiseConstant([(0, 0.5), (700, 1.0)])}, seed=0)


def test_adaptation_callback_resumed_run_equals_uninterrupted_run(tmp_path):
    whole = AdaptationCallback()
    uninterrupted = A2C(jumping(), seed=0).learn(1_500, whole)
    first, second = AdaptationCallback(), AdaptationCallback()
    path = A2C(jumping(), seed=0).learn(1_000, first).save(tmp_path / "agent")
    assert len(first.regimes) == 2
    resumed = A2C.load(path, jumping())
    resumed = A2C.load(resumed.save(tmp_path / "again"), jumping())
    resumed.learn(uninterrupted.num_timesteps - resumed.num_timesteps, second)
    assert len(whole.regimes) == 2
    assert repr(second.regimes) == repr(whole.regimes)  # nan is unequal to itself


def test_adaptation_callback_continues_the_regime_in_the_next_learn(tmp_path):
    whole, twice, loaded = (AdaptationCallback() for _ in range(3))
    num_timesteps = A2C(jumping(), seed=0).learn(1_500, whole).num_timesteps
    agent = A2C(jumping(), seed=0).learn(1_000, [twice, loaded])
    resumed = A2C.load(agent.save(tmp_path / "agent"), jumping())
    agent.learn(num_timesteps - agent.num_timesteps, twice)
    assert repr(twice.regimes) == repr(whole.regimes)
    resumed.learn(num_timesteps - resumed.num_timesteps, loaded)
    assert repr(loaded.regimes) == repr(whole.regimes)
    # Another agent begins a regime of its own, also with the same env steps.
    A2C(jumping(), seed=0).learn(100, twice)
    assert (twice.regimes[2].number, twice.regimes[2].start) == (0, 0)
    other = A2C(jumping(), seed=0).learn(100)
    other.learn(100, twice)
    assert twice.regimes[3].start == other.num_timesteps // 2


def test_learn_with_a_log_continues_the_regime_of_the_earlier_learn(tmp_path):
    whole, second = AdaptationCallback(), AdaptationCallback()
    num_timesteps = A2C(jumping(), seed=0).learn(1_500, whole).num_timesteps
    agent = A2C(jumping(), seed=0).learn(1_000, log_dir=tmp_path)
    agent.learn(num_timesteps - agent.num_timesteps, second, log_dir=tmp_path)
    assert len(whole.regimes) == 2
    assert repr(second.regimes) == repr(whole.regimes)


def test_eval_callback_resumed_run_keeps_the_patience_count(tmp_path):
    def evaluations():
        env = make_vec("CartPole-v1", 1, seed=0)
        callback = EvalCallback(env, every=100, episodes=1, patience=6, at_end=False)
        callback.best_mean_reward = 1e9
        return callback

    agent = A2C(make_vec("CartPole-v1", 2, seed=0), seed=0)
    path = agent.learn(450, evaluations()).save(tmp_path / "agent")
    resumed = A2C.load(path, make_vec("CartPole-v1", 2, seed=0))
    callback = EvalCallback(make_vec("CartPole-v1", 1, seed=0), every=100, episodes=1, patience=6, at_end=False)
    resumed.learn(5_000, callback)
    assert callback.best_mean_reward == 1e9
    assert 600 <= resumed.num_timesteps < 620
    with pytest.raises(ValueError, match=naming("EvalCallback", "damaged")):
        CallbackList([callback]).load_state_dict({"EvalCallback": [{"best_mean_reward": "high"}]})
