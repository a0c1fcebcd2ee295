"""Nonfinite rewards, observations and gradients at known places."""

import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import nn

from rl_rms.agents import A2C, PolicyConfig, Reinforce, evaluate
from rl_rms.agents.collector import Collector
from rl_rms.agents.config import A2CConfig
from rl_rms.agents.config_parts import MetaConfig
from rl_rms.agents.imputation import TAME, are_tame, find, replaced
from rl_rms.agents.losses import Batch, LossCoefficients, targets
from tests.agents.nonfinite import INF, NAN, finite, vector
from tests.naming import naming

MODES = list(AutoresetMode)


def play(env, num_steps, on_nonfinite, collector=None):
    collector = collector or Collector(env, on_nonfinite=on_nonfinite)
    if not collector.started:
        collector.start(seed=0)
    actions = np.zeros(env.num_envs, np.int64)
    return collector, collector.collect(lambda *_: (actions, actions), lambda steps, _: steps == num_steps)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("mode", MODES)
def test_raise_nonfinite_reward_names_its_place(value, mode):
    env = vector({}, {"rewards": {5: value}}, mode=mode)
    with pytest.raises(
        FloatingPointError,
        match=naming(
            "reward", "sub-environment 1", f"{value:g}", "8 env steps", "4", "environment", "on_nonfinite"
        ),
    ):
        play(env, 10, "raise")


@pytest.mark.parametrize("mode", MODES)
def test_raise_nonfinite_observation_names_its_place(mode):
    env = vector({}, {"observations": {3: [1.0, NAN]}}, mode=mode)
    named = naming("observation", "sub-environment 1", "nan", "1 of 2", "4 env steps", "2")
    with pytest.raises(FloatingPointError, match=named):
        play(env, 10, "raise")


def test_raise_nonfinite_reset_observation_names_its_place():
    with pytest.raises(
        FloatingPointError, match=naming("sub-environment 0", "finite", "inf", "1 of 2", "after 0")
    ):
        play(vector({"observations": {0: [INF, 1.0]}}), 1, "raise")


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_raise_nonfinite_final_observation_names_its_place(mode):
    env = vector({}, {"length": 3, "observations": {3: [NAN, 1.0]}}, mode=mode)
    with pytest.raises(
        FloatingPointError, match=naming("final observation", "sub-environment 1", "finite", "nan")
    ):
        play(env, 10, "raise")


def test_raise_accepts_huge_finite_values():
    env = vector({"rewards": {2: 1e30}, "observations": {1: [1e30, -3e38]}})
    _, rollout = play(env, 3, "raise")
    assert rollout.rewards[1, 0] == np.float32(1e30)


def test_raise_reward_that_overflows_float32_is_infinite():
    with pytest.raises(FloatingPointError, match=naming("1e+39")):
        play(vector({"rewards": {2: 1e39}}), 3, "raise")


@pytest.mark.parametrize("mode", MODES)
def test_skip_masks_the_transition_and_cuts_the_return(mode):
    env = vector({"rewards": {2: NAN}}, {"observations": {3: [NAN, INF]}}, {}, mode=mode)
    collector, rollout = play(env, 5, "skip")
    expected = np.zeros((5, 3), bool)
    expected[1, 0] = expected[3, 1] = True
    np.testing.assert_array_equal(rollout.masked, expected)
    np.testing.assert_array_equal(rollout.known, rollout.valid & ~expected)
    assert rollout.cut.tolist() == [
        [True, False, False],
        [True, False, False],
        [False, True, False],
        [False, True, False],
        [False, False, False],
    ]
    assert rollout.env_steps == 15
    assert rollout.rewards[:, 0].tolist() == [1.0, 0.0, 3.0, 4.0, 5.0]
    # The policy acts on the last finite observation.
    assert rollout.observations[3, 1].tolist() == [2.0, 0.5]
    assert collector.pop_num_nonfinite() == 2


def test_skip_nonfinite_last_observation_masks_the_next_rollout():
    env = vector({"observations": {3: [NAN, 1.0]}})
    collector, rollout = play(env, 3, "skip")
    assert rollout.masked is None
    assert rollout.observations[3, 0].tolist() == [2.0, 1.0]
    saved = collector.state_dict()
    other = Collector(env, on_nonfinite="skip")
    other.load_state_dict(saved)
    _, rollout = play(env, 2, "skip", other)
    assert rollout.masked.tolist() == [[True], [False]]


def test_skip_nonfinite_first_observation_becomes_zero():
    _, rollout = play(vector({"observations": {0: [NAN, 3.0]}}), 2, "skip")
    assert rollout.observations[0, 0].tolist() == [0.0, 3.0]
    assert rollout.masked.tolist() == [[True], [False]]


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_skip_nonfinite_final_observation_masks_its_transition(mode):
    env = vector({}, {"length": 3, "observations": {3: [NAN, 1.0]}}, mode=mode)
    _, rollout = play(env, 4, "skip")
    assert rollout.masked.tolist() == [[False, False], [False, False], [False, True], [False, False]]
    assert rollout.final_observations.tolist() == [[2.0, 1.0]]


def test_skip_episode_return_sums_finite_rewards():
    env = vector({"length": 3, "rewards": {2: NAN}}, mode=AutoresetMode.SAME_STEP)
    _, rollout = play(env, 3, "skip")
    assert [episode.ret for episode in rollout.episodes] == [4.0]


def test_skip_advantages_before_a_masked_step_bootstrap():
    env = vector({"rewards": {3: NAN}}, {})
    _, rollout = play(env, 4, "skip")
    values = np.arange(10.0, dtype=np.float32).reshape(5, 2)
    coefficients = LossCoefficients(
        gamma=0.5, gae_lambda=1.0, ent_coef=0.0, vf_coef=0.5, normalize_advantage=False
    )
    _, returns = targets(Batch(rollout, rollout.known, coefficients), values, np.zeros(0, np.float32))
    # V(o_2) is 4: r_1 + V(o_2) / 2 = 2 + 2; r_0 + 4 / 2 = 1 + 2. After the masked step: r_3 + V(o_4) / 2 = 4 + 4.
    assert returns[[0, 1, 3], 0].tolist() == [3.0, 4.0, 8.0]
    # 4 + 9 / 2 = 8.5, 3 + 8.5 / 2 = 7.25, 2 + 7.25 / 2 = 5.625, 1 + 5.625 / 2 = 3.8125
    assert returns[:, 1].tolist() == [3.8125, 5.625, 7.25, 8.5]


FAULTS = (
    {"rewards": {n: (NAN, INF, -INF)[n % 3] for n in range(3, 400, 7)}},
    {"observations": {n: [(NAN, INF, -INF, 1e30)[n % 4], 0.0] for n in range(2, 400, 5)}},
    {},
)


AGENTS = {
    "a2c": (A2C, {}),
    "autograd": (A2C, {"fused": False, "normalize_advantage": True}),
    "reinforce": (Reinforce, {}),
    "no baseline": (Reinforce, {"baseline": False}),
    "recurrent": (A2C, {"policy": PolicyConfig(recurrent="gru", hidden_sizes=(8,))}),
    "normalized": (A2C, {"normalize_observation": True, "normalize_reward": True}),
    "adam": (A2C, {"optimizer": "torch.optim.Adam"}),
    "meta": (A2C, {"meta": MetaConfig(window=2)}),
    "found": (A2C, {"half_life": "auto"}),
}


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, AutoresetMode.NEXT_STEP) for name in AGENTS),
        *itertools.product(["a2c", "reinforce"], [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]),
    ],
)
def test_learn_with_skip_continues(name, mode):
    kind, options = AGENTS[name]
    agent = kind(vector(*FAULTS, length=7, mode=mode), seed=0, on_nonfinite="skip", **options).learn(900)
    assert finite(agent)
    assert agent.num_nonfinite > 50
    assert all(math.isfinite(episode.ret) for episode in agent.episodes)
    for one in agent.learner.scaling.normalizers.values():
        if one is not None:
            assert "nan" not in str(one.state_dict())
            assert "inf" not in str(one.state_dict())


def test_learn_of_finite_values_is_bit_identical_for_each_option():
    agents = [A2C(vector({}, {}, length=7), seed=0, on_nonfinite=mode).learn(400) for mode in ("raise", "skip")]
    for own, other in zip(*(agent.policy.parameters() for agent in agents), strict=True):
        assert torch.equal(own, other)


def test_skip_rollout_without_valid_transitions_makes_no_update():
    env = vector({"rewards": dict.fromkeys(range(1, 11), NAN)})
    agent = A2C(env, n_steps=5, seed=0, on_nonfinite="skip").learn(10)
    assert (agent.num_updates, agent.num_timesteps, agent.num_nonfinite) == (0, 10, 10)
    assert agent.learn(5).num_updates == 1
    assert finite(agent)


def test_learn_rollouts_of_reset_frames_keep_parameters_finite():
    agent = A2C(vector({}, length=3), n_steps=1, seed=0).learn(30)
    assert finite(agent)
    assert agent.num_updates == 30


def test_resumed_run_continues_the_count_of_nonfinite_values(tmp_path):
    def make():
        return vector({"rewards": {3: NAN}}, length=50)

    agent = A2C(make(), seed=0, on_nonfinite="skip").learn(10)
    assert agent.num_nonfinite == 1
    loaded = A2C.load(agent.save(tmp_path / "agent"), make())
    assert (loaded.num_nonfinite, loaded.config.on_nonfinite) == (1, "skip")
    assert loaded.optimizer.guard.on_nonfinite == "skip"


def test_learn_logs_the_count_of_nonfinite_values(tmp_path):
    env = vector({"rewards": {3: NAN}})
    A2C(env, seed=0, on_nonfinite="skip").learn(20, log_dir=tmp_path, log_interval=1)
    assert "train/num_nonfinite" in (tmp_path / "metrics.csv").read_text()


def test_evaluate_follows_on_nonfinite():
    agent = A2C(vector({}), seed=0)
    with pytest.raises(FloatingPointError, match=naming("reward", "sub-environment 0")):
        evaluate(agent, vector({"length": 5, "rewards": {2: NAN}}), episodes=1)
    agent = A2C(vector({}), seed=0, on_nonfinite="skip")
    assert evaluate(agent, vector({"length": 5, "rewards": {2: NAN}}), episodes=1).returns.tolist() == [13.0]


# -- pure functions ------------------------------------------------------------------------------------------


def test_are_tame_is_true_for_finite_and_moderate_values():
    assert are_tame(np.array([1e18, -3.0], np.float32))
    assert are_tame({"a": np.array([1, 2]), "b": (np.zeros((2, 3)),)})
    for value in (NAN, INF, -INF, 2 * math.sqrt(TAME)):
        assert not are_tame(np.array([[1.0, value]], np.float32))
        assert not are_tame({"a": np.array([1, 2]), "b": (np.array([value]),)})


def test_find_names_the_place_and_number_of_nonfinite_values():
    tree = {"far": (np.array([[1.0, 2.0], [NAN, -INF], [1e39, 1.0]]),), "near": np.array([NAN, 1.0, 1.0])}
    assert list(map(str, find("the observation", tree))) == [
        "the observation['near'] of sub-environment 0 must be finite, got nan",
        "the observation['far'][0] of sub-environment 1 must be finite, got nan (not finite: 2 of 2 numbers)",
        "the observation['far'][0] of sub-environment 2 must be finite, got 1e+39 (not finite: 1 of 2 numbers)",
    ]
    assert find("the reward", np.array([3e38, 0.0])) == []


def test_replaced_keeps_finite_values():
    leaf = replaced(
        {"a": np.array([[1.0, NAN], [INF, 2.0]], np.float32)}, {"a": np.array([[5.0, 6.0], [7.0, 8.0]])}
    )
    np.testing.assert_array_equal(leaf["a"], np.array([[1.0, 6.0], [7.0, 2.0]], np.float32))
    assert leaf["a"].dtype == np.float32


# -- agents --------------------------------------------------------------------------------------------------


class Bad(nn.Module):
    """A policy with gradients or values that can be made nonfinite."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.factor = nn.Parameter(torch.ones(()))
        self.bad = None

    def actor(self, observations):
        from rl_rms.agents.distributions import Categorical

        return Categorical(self.layer(observations))

    def critic(self, observations):
        values = observations.sum(-1) * self.factor
        if self.bad == "value":
            return values * torch.where(observations[..., 0] == 2.0, NAN, 1.0)
        if self.bad == "gradient":
            # 0 in the forward pass, nan in the backward pass
            return values + (self.factor * 0.0).sqrt()
        return values


@pytest.mark.parametrize("optimizer", ["rl_rms.RMSprop", "torch.optim.Adam"])
def test_raise_nonfinite_gradient_names_its_cause(optimizer):
    options = {"n_steps": 5, "normalize_observation": False}
    agent = A2C(vector({}, {}), seed=0, policy=Bad(), optimizer=optimizer, **options).learn(10)
    before = [param.detach().clone() for param in agent.policy.parameters()]
    agent.session.collector.start(0)
    agent.policy.bad = "value"
    with pytest.raises(
        FloatingPointError,
        match=naming("update 2", "20 env steps", "gradient", "factor", "nan", "sub-environment 0", "step 2"),
    ):
        agent.learn(10)
    assert all(map(torch.equal, before, agent.policy.parameters()))
    agent.policy.bad = "gradient"
    with pytest.raises(FloatingPointError, match=naming("loss", "on_nonfinite", '"skip"')) as raised:
        agent.learn(10)
    assert "There" not in str(raised.value)
    with torch.no_grad():
        agent.policy.factor.fill_(NAN)
    agent.policy.bad = None
    with pytest.raises(FloatingPointError, match=naming("parameter", "factor")):
        agent.learn(10)


@pytest.mark.parametrize("optimizer", ["rl_rms.RMSprop", "torch.optim.Adam"])
def test_learn_nonfinite_gradient_is_skipped(optimizer):
    agent = A2C(vector({}, {}), seed=0, policy=Bad(), optimizer=optimizer, on_nonfinite="skip").learn(10)
    before = [param.detach().clone() for param in agent.policy.parameters()]
    agent.policy.bad = "gradient"
    agent.learn(10)
    assert agent.num_nonfinite == 1
    assert all(map(torch.equal, before, agent.policy.parameters()))
    assert finite(agent)
    agent.policy.bad = None
    assert finite(agent.learn(10))


def test_constructor_passes_on_nonfinite_to_the_optimizer():
    assert A2C("CartPole-v1", seed=0).optimizer.guard.on_nonfinite == "raise"
    own = A2C("CartPole-v1", seed=0, on_nonfinite="skip", optimizer_kwargs={"on_nonfinite": None})
    assert own.optimizer.guard.on_nonfinite is None


def test_constructor_with_a_wrong_on_nonfinite_names_it():
    with pytest.raises(ValueError, match=naming("on_nonfinite", "raise", "skip", "'ignore'")):
        A2CConfig(on_nonfinite="ignore")
