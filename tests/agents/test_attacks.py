import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from rl_rms.agents import A2C, PolicyConfig
from rl_rms.agents.attacks import FGSMAttack, adversarial_direction
from rl_rms.agents.distributions import Categorical
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Constant, Linear, Redraw
from tests.naming import naming

SAME_STEP = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": "SameStep"}}


class LinearPolicy(nn.Module):
    """Action 0 has the logit ``x0 - 2 x1 + 0 x2 + 3 x3``, action 1 the logit 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, -2.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0]]))

    def actor(self, observations):
        return Categorical(observations @ self.weight.T)

    def critic(self, observations):
        return 0.0 * observations.sum(-1) + self.weight.sum()


def attacked(strength, *, id="CartPole-v1", num_envs=3, policy=None, **kwargs):
    """An environment under attack, and its agent."""
    env = FGSMAttack(make_vec(id, num_envs, {}, seed=0, **kwargs), strength)
    agent = A2C(env, policy=policy, normalize_observation=False, seed=0)
    env.aim(agent)
    return env, agent


def test_fgsm_direction_opposes_the_most_likely_action_of_a_linear_policy():
    _, agent = attacked(0.1, policy=LinearPolicy())
    observations = np.array([[1.0, 0.0, 5.0, 0.0], [-1.0, 0.0, 5.0, 0.0]], np.float32)
    # The attack must lower the logit of action 0 if action 0 is the most likely action, and else raise the logit.
    assert adversarial_direction(agent, observations).tolist() == [[-1, 1, 0, -1], [1, -1, 0, 1]]


def test_fgsm_attack_moves_observations_by_the_strength():
    plain = make_vec("CartPole-v1", 3, {}, seed=0)
    env, agent = attacked(0.25, policy=LinearPolicy())
    actions = np.array([0, 1, 1])
    for true, seen in (
        (plain.reset(seed=5)[0], env.reset(seed=5)[0]),
        (plain.step(actions)[0], env.step(actions)[0]),
    ):
        score = true @ np.array([1.0, -2.0, 0.0, 3.0])
        moved = true - 0.25 * np.sign(score)[:, None] * np.sign([1.0, -2.0, 0.0, 3.0])
        np.testing.assert_allclose(seen, moved, rtol=1e-5)
        assert seen.dtype == np.float32
    assert agent.policy.weight.grad is None or not agent.policy.weight.grad.any()


def test_fgsm_attack_lowers_the_probability_of_the_most_likely_action():
    _, agent = attacked(0.01, policy=PolicyConfig(activation="relu"))
    agent.learn(2_000)
    observations = np.random.default_rng(0).normal(0, 0.3, (50, 4)).astype(np.float32)
    moved = observations + np.float32(0.01) * adversarial_direction(agent, observations)
    with torch.no_grad():
        before, after = (agent.policy(torch.from_numpy(x))[0].log_probs for x in (observations, moved))
    best = before.argmax(1, keepdim=True)
    assert (after.gather(1, best) < before.gather(1, best)).float().mean() > 0.95


def test_fgsm_attack_keeps_observations_in_their_space():
    env, _ = attacked(0.7, id="rl_rms/TwoStates-v0", num_envs=4)
    seen = [env.reset(seed=0)[0], *(env.step(np.array([0, 1, 0, 1]))[0] for _ in range(5))]
    assert all(env.observation_space.contains(one) for one in seen)
    assert {round(value, 3) for value in np.ravel(seen).tolist()} - {0.0, 1.0}, "nothing was moved"


def weights(agent):
    return torch.cat([param.detach().flatten() for param in agent.policy.parameters()])


def test_fgsm_attack_of_strength_zero_changes_nothing():
    _, agent = attacked(0.0)
    alone = A2C(make_vec("CartPole-v1", 3, {}, seed=0), normalize_observation=False, seed=0).learn(500)
    assert torch.equal(weights(agent.learn(500)), weights(alone))
    _, other = attacked(0.05)
    assert not torch.equal(weights(other.learn(500)), weights(alone))


def test_fgsm_attack_strength_follows_its_schedule():
    env, _ = attacked(Constant(0.3).during(6, 12, rest=0), policy=LinearPolicy())
    plain = make_vec("CartPole-v1", 3, {}, seed=0)
    env.reset(seed=3), plain.reset(seed=3)
    shifts = []
    for _ in range(5):
        seen, true = env.step(np.array([0, 1, 0]))[0], plain.step(np.array([0, 1, 0]))[0]
        shifts.append(float(np.abs(seen - true).max()))
    # A vector step has three env steps, so the clock is 3, 6, 9, 12, 15.
    assert shifts == [0.0, pytest.approx(0.3), pytest.approx(0.3), 0.0, 0.0]


def test_fgsm_attack_with_a_random_strength_draws_it_from_the_environments_seed():
    def shifts(seed):
        env = FGSMAttack(make_vec("CartPole-v1", 3, {}, seed=seed), Redraw(low=0.1, high=0.9, every=3))
        env.aim(A2C(env, policy=LinearPolicy(), normalize_observation=False, seed=0))
        plain = make_vec("CartPole-v1", 3, {}, seed=seed)
        env.reset(seed=seed), plain.reset(seed=seed)
        actions = np.array([0, 1, 0])
        return [float(np.abs(env.step(actions)[0] - plain.step(actions)[0]).max()) for _ in range(4)]

    one = shifts(1)
    assert one == shifts(1)
    assert len({round(shift, 3) for shift in [*one, *shifts(2)]}) == 8


def test_fgsm_attack_moves_final_observations():
    env, _ = attacked(0.3, policy=LinearPolicy(), **SAME_STEP)
    plain = make_vec("CartPole-v1", 3, {}, seed=0, **SAME_STEP)
    env.reset(seed=3), plain.reset(seed=3)
    for _ in range(12):
        info, true = env.step(np.ones(3, int))[4], plain.step(np.ones(3, int))[4]
    finals = 0
    while not finals:
        info, true = env.step(np.ones(3, int))[4], plain.step(np.ones(3, int))[4]
        for mine, theirs in zip(info.get("final_obs", []), true.get("final_obs", []), strict=True):
            if theirs is None:
                assert mine is None
            else:
                finals += 1
                np.testing.assert_allclose(np.abs(mine - theirs), [0.3, 0.3, 0.0, 0.3], rtol=1e-5)


def test_fgsm_attack_accounts_for_observation_normalization():
    env = FGSMAttack(make_vec("CartPole-v1", 3, {}, seed=0), 0.1)
    agent = A2C(env, policy=LinearPolicy(), normalize_observation=True, seed=0)
    env.aim(agent)
    agent.observation_normalizer.update(np.full((2, 3, 4), 2.0), np.ones((1, 3), bool))
    observations = np.array([[1.9, 2.0, 2.0, 2.0], [2.1, 2.0, 2.0, 2.0]], np.float32)
    agent.observation_normalizer.frozen = True
    assert adversarial_direction(agent, observations)[:, 0].tolist() == [1.0, -1.0]


def test_resumed_run_under_attack_is_bit_identical(tmp_path):
    schedule = Constant(0.2).during(300, 700, rest=0)
    _, whole = attacked(schedule)
    whole.learn(300).learn(600)
    _, first = attacked(schedule)
    path = first.learn(300).save(tmp_path / "agent")
    env = FGSMAttack(make_vec("CartPole-v1", 3, {}, seed=0), schedule)
    again = A2C.load(path, env=env)
    env.aim(again)
    assert torch.equal(weights(again.learn(600)), weights(whole))


@pytest.mark.parametrize(
    ("id", "strength", "message"),
    [
        ("Pendulum-v1", 0.1, ["discrete", "Box"]),
        ("FrozenLake-v1", 0.1, ["floats", "Discrete"]),
        ("CartPole-v1", -0.1, ["strength", "-0.1"]),
        ("CartPole-v1", Linear(start=0.1, end=-0.1, over=10), ["strength", "0"]),
    ],
)
def test_fgsm_attack_with_a_wrong_argument_names_it(id, strength, message):
    with pytest.raises(ValueError, match=naming(*message)):
        FGSMAttack(make_vec(id, 2, {}, seed=0), strength)


@pytest.mark.parametrize("strength", ["0.1", True, float("nan"), None, [0.1]])
def test_attack_with_a_non_numeric_strength_names_it(strength):
    with pytest.raises(ValueError, match=naming("strength", repr(strength))):
        FGSMAttack(make_vec("CartPole-v1", 2, {}, seed=0), strength)


def test_fgsm_attack_env_without_clock_raises():
    with pytest.raises(ValueError, match=naming("clock", "make_vec")):
        FGSMAttack(gym.make_vec("CartPole-v1", num_envs=2), 0.1)


def test_fgsm_attack_without_agent_or_with_a_recurrent_policy_raises():
    env = FGSMAttack(make_vec("CartPole-v1", 2, {}, seed=0), 0.1)
    with pytest.raises(RuntimeError, match=naming("aim(agent)")):
        A2C(env, seed=0).learn(10)
    with pytest.raises(ValueError, match=naming("memory")):
        env.aim(A2C(env, policy=PolicyConfig(recurrent="gru"), seed=0))
