import csv
import math
from functools import partial
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.agents import A2C, PPO, ActorCriticPolicy, PolicyConfig, Reinforce, evaluate
from rl_rms.agents.collector import Collector
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import PoissonJumps
from rl_rms.laws import matched_half_life
from tests.agents.returns import RANDOM_RETURN, below
from tests.naming import naming


def test_random_policy_return_on_cartpole_equals_the_documented_value():
    env = gym.make_vec("CartPole-v1", 64)
    env.action_space.seed(0)
    collector = Collector(env)
    collector.start(seed=0)
    episodes = collector.collect(
        lambda *_: (env.action_space.sample(),) * 2, lambda steps, _: steps == 500
    ).episodes
    assert np.mean([episode.ret for episode in episodes]) == pytest.approx(RANDOM_RETURN, abs=0.5)


@pytest.mark.parametrize("agent_class", [A2C, Reinforce])
def test_a2c_with_continuous_actions_reaches_the_return(agent_class, target):
    agent = agent_class(target(16), learning_rate=3e-3, seed=0).learn(16 * 1500, below(-0.3))
    action, _ = agent.predict(np.ones(1, np.float32), deterministic=True)
    assert action == pytest.approx(0.5, abs=0.15)
    assert agent.policy.log_std.item() < -0.3  # the best policy is deterministic


@pytest.mark.parametrize("agent_class", [A2C, Reinforce])
def test_learn_with_the_same_seed_gives_the_same_weights(agent_class):
    def weights(seed):
        agent = agent_class(make_vec("CartPole-v1", num_envs=4), seed=seed).learn(600)
        return torch.nn.utils.parameters_to_vector(agent.policy.parameters())

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_constructor_leaves_the_global_random_generator_of_torch_unchanged():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    A2C("CartPole-v1", seed=5)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("optimizer", ["rl_rms.RMSprop", "torch.optim.SGD"])
def test_learn_clips_gradients_before_the_optimizer_step(optimizer, counting):
    def grown(max_grad_norm):
        agent = A2C(counting([(9, True)]), max_grad_norm=max_grad_norm, optimizer=optimizer, seed=0).learn(5)
        return torch.nn.utils.get_total_norm([param.grad for param in agent.policy.parameters()]).item()

    assert grown(None) > 1.0
    assert grown(0.25) == pytest.approx(0.25, rel=1e-3)


def make_jumping_env():
    return make_vec("CartPole-v1", num_envs=8, changes={"length": PoissonJumps(0.1, 2.0, mean_dwell=3_000)})


def test_matched_half_life_uses_the_timescale_of_the_environment(tmp_path):
    agent = A2C(make_jumping_env(), half_life="match", optimizer_kwargs={"half_life_bounds": (1, 1e6)}, seed=0)
    assert "timescale of 3,000 env steps, between 1 and 1e+06 updates" in agent.describe_half_life()
    agent.learn(4_000, log_dir=tmp_path, log_interval=10)
    events = EventAccumulator(str(tmp_path)).Reload()
    last = {tag: events.Scalars(f"optim/{tag}")[-1].value for tag in ("match_timescale", "match_snr")}
    assert last["match_timescale"] == pytest.approx(3_000 / agent.optimizer.steps_per_update)
    assert last["match_snr"] > 0
    expected = matched_half_life(last["match_timescale"], last["match_snr"])
    chosen = events.Scalars("optim/half_life_updates")[-1].value
    assert chosen == pytest.approx(expected, rel=0.6)
    assert events.Scalars("optim/half_life_shortest")[-1].value == 1.0
    assert events.Scalars("optim/half_life_longest")[-1].value == pytest.approx(1e6)


def test_explicit_timescale_overrides_the_environments():
    agent = A2C(make_jumping_env(), half_life="match", optimizer_kwargs={"timescale": "500 steps"}, seed=0)
    assert "timescale of 500 env steps" in agent.describe_half_life()


def test_matched_half_life_env_without_timescale_raises():
    with pytest.raises(ValueError, match=naming('half_life="match"', "timescale=None")):
        A2C("CartPole-v1", half_life="match", seed=0).learn(100)


@pytest.mark.parametrize("half_life", ["match", "auto"])
def test_load_keeps_the_estimated_half_life(half_life, tmp_path):
    options = {"half_life": half_life, "optimizer_kwargs": {"half_life_bounds": (1, 1e6)}, "seed": 0}
    agent = A2C(make_jumping_env(), **options).learn(4_000)
    again = A2C.load(agent.save(tmp_path / "agent"), make_jumping_env())
    assert again.optimizer.steps_per_update is None
    again.optimizer.steps_per_update = agent.optimizer.steps_per_update
    assert again.optimizer.half_life == agent.optimizer.half_life != 1


def test_half_life_in_steps_is_independent_of_num_envs():
    half_lives = [
        A2C(make_vec("CartPole-v1", num_envs), half_life="800 steps", n_steps=5, seed=0).describe_half_life()
        for num_envs in (4, 8)
    ]
    assert all("= 800 env steps" in half_life for half_life in half_lives)
    assert [half_life.split()[1] for half_life in half_lives] == ["40.0", "20.0"]


def test_learn_stops_at_the_first_update_after_the_total_and_continues():
    agent = A2C(make_vec("CartPole-v1", num_envs=4), n_steps=5, seed=0).learn(1_000)
    assert 1_000 <= agent.num_timesteps < 1_020
    before = agent.num_timesteps
    agent.learn(500)
    assert before + 500 <= agent.num_timesteps < before + 520


def test_stable_baselines3_evaluate_policy_accepts_agents():
    agent = A2C("CartPole-v1", seed=0)
    mean, _ = evaluate_policy(agent, DummyVecEnv([lambda: gym.make("CartPole-v1")]), 3, warn=False)
    assert 5 < mean < 500


@pytest.mark.parametrize("agent_class", [A2C, Reinforce])
def test_load_restores_weights_optimizer_counters_and_clock(agent_class, tmp_path):
    from rl_rms.envs.schedules import Sinusoid

    def make_env():
        return make_vec("CartPole-v1", 4, {"gravity": Sinusoid(mean=9.8, amplitude=2.0, period=5_000)}, seed=7)

    agent = agent_class(make_env(), half_life="900 steps", policy=PolicyConfig(hidden_sizes=(8,)), seed=0).learn(
        800
    )
    path = agent.save(tmp_path / "agent")
    assert path.name == "agent.safetensors"
    loaded = agent_class.load(path, env=make_env())
    for mine, theirs in zip(loaded.policy.parameters(), agent.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert loaded.config == agent.config
    assert (loaded.num_timesteps, loaded.num_updates) == (agent.num_timesteps, agent.num_updates)
    states = [list(one.optimizer.state_dict()["state"].values()) for one in (loaded, agent)]
    assert all(torch.equal(mine["square_avg"], theirs["square_avg"]) for mine, theirs in zip(*states, strict=True))
    observation = np.zeros((5, 4), np.float32)
    assert loaded.predict(observation)[0].tolist() == agent.predict(observation)[0].tolist()
    loaded.learn(40)
    assert loaded.env.clock > agent.env.clock  # the environment continued
    assert loaded.env.clock == loaded.num_timesteps


def test_load_into_a_new_environment_begins_new_episodes(tmp_path):
    seeds = []

    class Recording(gym.Wrapper):
        def reset(self, *, seed=None, options=None):
            seeds.append(seed)
            return super().reset(seed=seed, options=options)

    agent = A2C(Recording(gym.make("CartPole-v1")), seed=3).learn(20)
    A2C.load(agent.save(tmp_path / "agent"), env=Recording(gym.make("CartPole-v1"))).learn(20)
    given = [seed for seed in seeds if seed is not None]
    assert given[0] == 3
    assert given[1] != 3


def test_load_without_environment_predicts_and_learn_raises(tmp_path):
    path = A2C("Pendulum-v1", seed=0).save(tmp_path / "pendulum")
    loaded = A2C.load(path)
    assert loaded.predict(np.zeros(3, np.float32))[0].shape == (1,)
    with pytest.raises(ValueError, match=naming("environment")):
        loaded.learn(10)


def test_load_with_user_modules_takes_them_as_arguments(tmp_path):
    spaces = gym.make("CartPole-v1").observation_space, gym.spaces.Discrete(2)
    agent = A2C("CartPole-v1", policy=ActorCriticPolicy(*spaces, PolicyConfig(hidden_sizes=(3,))), seed=0).learn(
        20
    )
    path = agent.save(tmp_path / "mine")
    with pytest.raises(ValueError, match=naming("policy=")):
        A2C.load(path)
    loaded = A2C.load(path, policy=ActorCriticPolicy(*spaces, PolicyConfig(hidden_sizes=(3,))))
    assert torch.equal(next(loaded.policy.parameters()), next(agent.policy.parameters()))


@pytest.mark.parametrize("total", [0, -5])
def test_learn_zero_steps_raises(total):
    with pytest.raises(ValueError, match=naming("total_timesteps", "1")):
        A2C("CartPole-v1").learn(total)


def test_log_has_the_tags_of_stable_baselines3_and_of_rl_rms(tmp_path):
    from rl_rms.envs.schedules import Step

    env = make_vec("CartPole-v1", 4, {"gravity": Step(before=9.8, after=15.0, at=500)}, seed=0)
    A2C(env, half_life="2_000 steps", n_steps=5, seed=0).learn(2_000, log_dir=tmp_path, log_interval=10)
    events = EventAccumulator(str(tmp_path)).Reload()
    tags = set(events.Tags()["scalars"])
    expected = {
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "time/fps",
        "train/policy_gradient_loss",
        "train/value_loss",
        "train/entropy_loss",
        "train/explained_variance",
        "train/learning_rate",
        "optim/half_life_updates",
        "optim/half_life_steps",
        "optim/rho",
        "optim/effective_step",
        "optim/second_moment",
        "optim/gradient_norm",
        "env/gravity",
        "env/regime",
    }
    assert expected <= tags
    gravity = events.Scalars("env/gravity")
    assert [event.value for event in gravity if event.step < 500] == pytest.approx([9.8] * 3, rel=1e-6)
    assert {event.value for event in gravity if event.step > 520} == {15.0}
    assert events.Scalars("optim/half_life_steps")[-1].value == pytest.approx(2_000)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows = [row for row in rows if row["env/gravity"]]
    assert len(rows) == len(gravity)
    assert float(rows[-1]["time/total_timesteps"]) >= 2_000
    assert {math.isnan(float(row["train/policy_gradient_loss"])) for row in rows} == {False}


@pytest.mark.parametrize(("agent", "total"), [(A2C, 2_000), (PPO, 600)])
def test_learn_without_log_interval_logs_each_hundredth_of_the_env_steps(agent, total, tmp_path):
    agent("CartPole-v1", n_steps=4, seed=0).learn(total, log_dir=tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        steps = [float(row["time/total_timesteps"]) for row in csv.DictReader(file)]
    assert len(steps) >= 100
    assert max(np.diff(steps)) <= 0.02 * steps[-1]


@pytest.mark.parametrize(("agent", "every"), [(A2C, 100), (PPO, 1)])
def test_learn_without_log_interval_logs_as_often_as_stable_baselines3(agent, every, tmp_path):
    trained = agent("CartPole-v1", n_steps=5, seed=0)
    trained.learn(10**6, lambda one: one.training.num_rollouts < 205, log_dir=tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        # The first rollout is always logged.
        assert len(list(csv.DictReader(file))) == 205 // every + (every > 1)


def test_log_has_hyperparameters_in_the_hparams_tab(tmp_path):
    A2C("CartPole-v1", half_life=69, seed=3).learn(20, log_dir=tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    plugin = events.SummaryMetadata("_hparams_/session_start_info").plugin_data
    assert plugin.plugin_name == "hparams"
    assert b"half_life" in plugin.content
    assert b"policy.hidden_sizes" in plugin.content


def test_learn_without_log_dir_computes_no_diagnostics(monkeypatch, tmp_path):
    agent = A2C("CartPole-v1", seed=0)
    asked = []
    monkeypatch.setattr(agent.optimizer, "diagnostics", lambda: asked.append(agent.num_updates) or {})
    agent.learn(100, log_interval=5)
    assert asked == []
    agent.learn(100, log_interval=5, log_dir=tmp_path)
    assert asked


class WideCritic(ActorCriticPolicy):
    def critic(self, observations):
        return super().critic(observations)[:, None]


class WideActor(ActorCriticPolicy):
    def actor(self, observations):
        one = super().actor(observations)
        return SimpleNamespace(
            sample=one.sample, entropy=one.entropy, log_prob=lambda actions: one.log_prob(actions)[:, None]
        )


@pytest.mark.parametrize("agent", [A2C, partial(PPO, n_steps=5), Reinforce])
@pytest.mark.parametrize(("policy", "named"), [(WideCritic, "values"), (WideActor, "log-probabilities")])
def test_learn_with_a_policy_whose_results_would_be_broadcast_names_them(agent, policy, named):
    module = policy(gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Discrete(2), PolicyConfig())
    with pytest.raises(ValueError, match=naming(named, "shape")):
        agent("CartPole-v1", policy=module, seed=0).learn(1)


def test_initial_weights_are_independent_of_the_number_of_threads():
    number = torch.get_num_threads()
    weights = []
    try:
        for threads in (2, 1):
            torch.set_num_threads(threads)
            weights.append([*A2C("CartPole-v1", seed=0).policy.parameters()])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(number)
    assert all(map(torch.equal, *weights))


def test_seed_numpy_integer_trains_as_an_int():
    def trained(seed, whole):
        env = make_vec("CartPole-v1", 2, seed=whole(4), vectorization_mode="sync")
        env.reset(seed=whole(1))
        env.reset(seed=[whole(1), whole(2)])
        agent = A2C(env, seed=seed).learn(whole(40), log_interval=whole(1))
        return agent, evaluate(agent, "CartPole-v1", whole(2), seed=whole(3)).returns.tolist()

    (ours, returns), (plain, expected) = trained(np.int64(3), np.int64), trained(3, int)
    assert (type(ours.seed), returns) == (int, expected)
    for one, other in zip(ours.policy.parameters(), plain.policy.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("seed", [-1, 0.5, "3"])
def test_seed_out_of_range_is_named(seed):
    agent = A2C("CartPole-v1", seed=0)
    env = make_vec("CartPole-v1", 2)
    for use in (
        lambda: A2C("CartPole-v1", seed=seed),
        lambda: evaluate(agent, "CartPole-v1", seed=seed),
        lambda: env.reset(seed=[0, seed]),
        lambda: make_vec("CartPole-v1", seed=seed),
    ):
        with pytest.raises(ValueError, match=naming("seed", "0")):
            use()


def test_constructor_with_an_unknown_device_names_it():
    with pytest.raises(ValueError, match="device"):
        A2C("CartPole-v1", device="gpu")


class OnlyActor(torch.nn.Module):
    def actor(self, observations):
        raise NotImplementedError


SPACES = {"observation_space": gym.spaces.Box(-1, 1, (4,), np.float32), "action_space": gym.spaces.Discrete(2)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, ["env", "observation_space", "action_space", "None"]),
        (
            {**SPACES, "policy": OnlyActor()},
            ["policy", "OnlyActor", "critic"],
        ),
    ],
)
def test_constructor_with_a_wrong_argument_names_it(arguments, said):
    with pytest.raises(ValueError, match=naming(*said)):
        A2C(None, **arguments)


def test_environment_that_cannot_restart_raises():
    with pytest.raises(ValueError, match=naming("on_env_error", "restart", "ResilientSyncVectorEnv")):
        A2C(gym.make("CartPole-v1"), on_env_error="restart")


def test_batch_normalization_of_one_transition_raises():
    with pytest.raises(ValueError, match=naming('norm="batch"', "n_steps")):
        A2C("CartPole-v1", n_steps=1, policy=PolicyConfig(norm="batch"))
