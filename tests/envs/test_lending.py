import json

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.env_checker

from rl_rms.envs import NonStationary, make_vec, tasks
from rl_rms.envs.lending import Lending, true_positive_rates
from rl_rms.envs.schedules import Step
from tests.naming import naming


def people(count=100_000, seed=0, **options):
    env = Lending(**options)
    return env, env.applicants(count, np.random.default_rng(seed))


def test_episode_equals_hand_computed_values():
    # Without noise and with a steep rule, an applicant repays if and only if importance @ traits > 0.
    env = Lending(num_features=2, noise_0=0.0, noise_1=0.0, steepness=1e6, gain=2.0, loss=5.0)
    observation, info = env.reset(seed=0)
    assert info == {}
    seen = set()
    for action in np.random.default_rng(0).integers(2, size=200):
        good, group = observation[:2] @ [2, 1] > 0, int(observation[3])
        observation, reward, terminated, truncated, info = env.step(action)
        assert info == {"group": group, "repays": good}
        assert reward == (0 if action == 0 else 2 if good else -5)
        assert not terminated
        assert not truncated
        seen.add((action, good, group))
    assert len(seen) == 8


def test_groups_differ_only_in_noise_and_number():
    env, (observations, groups, repays) = people(num_features=3, noise_0=0.5, noise_1=2.0, share_1=0.3)
    assert np.array_equal(observations[:, 3:], np.eye(2)[groups])
    assert groups.mean() == pytest.approx(0.3, abs=0.01)
    assert env.importance == pytest.approx(np.array([3, 2, 1]) / 14**0.5)
    for group, noise in ((0, 0.5), (1, 2.0)):
        of_group = groups == group
        assert repays[of_group].mean() == pytest.approx(0.5, abs=0.01)
        noisy = (1 + noise**2) ** 0.5
        assert observations[of_group, :3].std(0) == pytest.approx([noisy, 1, noisy], rel=0.02)


def test_repayment_probabilities_equal_simulated_shares():
    env, (observations, groups, repays) = people(400_000, noise_1=1.5)
    chances = env.chances(observations)
    for group in (0, 1):
        for low in (0.0, 0.2, 0.4, 0.6, 0.8):
            in_bin = (groups == group) & (low <= chances) & (chances < low + 0.2)
            assert repays[in_bin].mean() == pytest.approx(chances[in_bin].mean(), abs=0.012)


def test_repayment_probabilities_equal_hand_computed_values():
    # Without noise, the probability is sigmoid(steepness * importance @ x) with the importance (2, 1) / sqrt(5).
    env = Lending(num_features=2, noise_0=0.0, noise_1=1.0, steepness=1.0)
    assert env.chances([[1.0, -1.0, 1, 0]]) == pytest.approx(1 / (1 + np.exp(-1 / 5**0.5)))
    # Given features of 0, importance @ traits is as likely above 0 as below.
    assert env.chances([[0.0, 0.0, 0, 1]]) == pytest.approx(0.5)
    # With a steep rule, the chance is the probability that a normal variable with the mean 1/2 * 2/sqrt(5) and
    # the variance 1/2 * 4/5 is above 0. Only the first trait has noise.
    steep = Lending(num_features=2, noise_1=1.0, steepness=20.0)
    assert steep.chances([[1.0, 0.0, 0, 1]]) == pytest.approx(0.7602, abs=2e-3)


def test_best_actions_have_the_highest_return():
    env, (observations, _, repays) = people(gain=1.0, loss=3.0)
    chances = env.chances(observations)
    best_return = env.rewards(env.best_actions(observations), repays).mean()
    for threshold in (0.6, 0.7, 0.8, 0.9):
        assert env.rewards(chances > threshold, repays).mean() < best_return
    # At odds of 3 to 1, both actions have the same return.
    assert env.rewards(chances > 0.75, repays).mean() == pytest.approx(best_return)


def test_best_policy_has_a_higher_true_positive_rate_in_the_less_noisy_group():
    env, (observations, groups, repays) = people()
    quiet, noisy = true_positive_rates(env.best_actions(observations), groups, repays)
    assert quiet - noisy > 0.1
    env.noise_1 = env.noise_0
    observations, groups, repays = env.applicants(100_000, np.random.default_rng(0))
    quiet, noisy = true_positive_rates(env.best_actions(observations), groups, repays)
    assert quiet == pytest.approx(noisy, abs=0.01)


def test_true_positive_rates_equal_hand_computed_values():
    groups, repays = [0, 0, 0, 1, 1, 1], [True, True, False, True, True, True]
    rates = true_positive_rates([[1, 0, 1, 0, 1, 1], [1, 1, 0, 0, 0, 0]], groups, repays)
    assert rates == pytest.approx(np.array([[1 / 2, 2 / 3], [1, 0]]))
    assert np.isnan(true_positive_rates([1, 1], [0, 0], [True, False])[1])


@pytest.mark.parametrize("target", ["noise_0", "noise_1", "share_1", "steepness", "gain", "loss"])
def test_every_parameter_can_drift(target):
    # The wrapper raises an error if a change has no effect.
    env = NonStationary(Lending(), {target: Step(before=0.3, after=0.9, at=5)}, seed=0)
    env.reset(seed=0)
    for _ in range(6):
        env.step(1)
    assert getattr(env.unwrapped, target) == 0.9


@pytest.mark.parametrize(("target", "value"), [("noise_0", -1.0), ("share_1", 2.0)])
def test_schedule_out_of_bounds_is_named(target, value):
    with pytest.raises(ValueError, match=naming(f"'{target}'", str(value))):
        NonStationary(Lending(), {target: value})


def test_saved_state_continues_exactly():
    def make():
        return NonStationary(Lending(), {"noise_1": Step(before=1.0, after=3.0, at=15)}, seed=0)

    env, other = make(), make()
    env.reset(seed=0)
    for _ in range(10):
        env.step(1)
    other.load_state_dict(json.loads(json.dumps(env.state_dict())))
    for _ in range(10):
        ours, theirs = env.step(1), other.step(1)
        assert np.array_equal(ours[0], theirs[0])
        assert ours[1] == theirs[1]
        assert ours[4]["repays"] == theirs[4]["repays"]


def test_make_by_id_gives_the_environment():
    env = gym.make(f"rl_rms.envs.tasks:{tasks.NAMESPACE}/Lending-v0", noise_1=3.0)
    assert env.unwrapped.noise_1 == 3.0
    assert env.spec.max_episode_steps == 100
    vector = make_vec("rl_rms/Lending-v0", 3, {"share_1": 0.5}, seed=0)
    vector.reset(seed=0)
    assert vector.step(np.ones(3, np.int64))[4]["group"].shape == (3,)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"num_features": 0}, "num_features"),
        ({"noise_0": -1.0}, "noise_0"),
        ({"noise_1": -1.0}, "noise_1"),
        ({"share_1": 1.5}, "share_1"),
        ({"steepness": np.inf}, "steepness"),
        ({"gain": "1"}, "gain"),
        ({"loss": np.nan}, "loss"),
    ],
)
def test_constructor_with_a_wrong_argument_names_it(options, name):
    with pytest.raises(ValueError, match=naming(name)):
        Lending(**options)


@pytest.mark.parametrize(
    "check", [gym.utils.env_checker.check_env, stable_baselines3.common.env_checker.check_env]
)
def test_environment_checkers_pass(check):
    check(Lending(), skip_render_check=True)
