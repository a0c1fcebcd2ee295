"""The env steps per update of `HalfLifeCallback` equal the counts in training runs of Stable-Baselines3."""

import json
import math

import gymnasium as gym
import pytest
import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

import rl_rms
from rl_rms.envs import NonStationary
from rl_rms.envs.schedules import PoissonJumps
from rl_rms.sb3 import HalfLifeCallback, env_steps_per_update
from tests.naming import naming

OFF_POLICY = {"learning_starts": 0, "batch_size": 4, "buffer_size": 200}


def build(algorithm, n_envs=1, optimizer_class=rl_rms.RMSprop, optimizer_kwargs=None, **arguments):
    discrete = algorithm in {A2C, PPO, DQN}
    return algorithm(
        "MlpPolicy",
        make_vec_env("CartPole-v1" if discrete else "Pendulum-v1", n_envs=n_envs, seed=0),
        policy_kwargs={
            "optimizer_class": optimizer_class,
            "optimizer_kwargs": optimizer_kwargs or {},
            "net_arch": [8],
        },
        seed=0,
        device="cpu",
        **arguments,
    )


def count_steps(optimizer):
    """A list that grows by one with every step of the optimizer."""
    counted = []
    optimizer.register_step_post_hook(lambda *_: counted.append(None))
    return counted


@pytest.mark.parametrize(
    ("algorithm", "n_envs", "arguments", "timesteps", "expected"),
    [
        (A2C, 1, {"n_steps": 5}, 50, 5.0),
        (A2C, 4, {"n_steps": 5}, 100, 20.0),
        (PPO, 2, {"n_steps": 16, "batch_size": 8, "n_epochs": 3}, 64, 32 / 12),
        (PPO, 3, {"n_steps": 10, "batch_size": 10, "n_epochs": 2}, 60, 5.0),
        (DQN, 1, {"train_freq": 4, "gradient_steps": 1}, 48, 4.0),
        (DQN, 3, {"train_freq": 4, "gradient_steps": 2}, 48, 6.0),
        (DQN, 3, {"train_freq": 4, "gradient_steps": -1}, 48, 1.0),
        (SAC, 2, {"train_freq": 3, "gradient_steps": 4}, 48, 1.5),
        (TD3, 2, {"train_freq": 4, "gradient_steps": 2, "policy_delay": 3}, 48, 4.0),
        (DDPG, 1, {"train_freq": 2, "gradient_steps": 1}, 24, 2.0),
    ],
)
def test_env_steps_per_update_equals_the_measured_value(algorithm, n_envs, arguments, timesteps, expected):
    if algorithm in {DQN, SAC, TD3, DDPG}:
        arguments = {**OFF_POLICY, **arguments}
    model = build(algorithm, n_envs, **arguments)
    held = (
        {"policy": model.policy}
        if algorithm in {A2C, PPO, DQN}
        else {"actor": model.actor, "critic": model.critic}
    )
    counted = {name: count_steps(holder.optimizer) for name, holder in held.items()}
    model.learn(timesteps)
    assert model.num_timesteps == timesteps
    for name, steps in counted.items():
        assert env_steps_per_update(model, name) == pytest.approx(timesteps / len(steps))
    if algorithm is TD3:
        assert env_steps_per_update(model, "actor") == 3 * expected
    assert env_steps_per_update(model, "critic") == pytest.approx(expected)


def test_env_steps_per_update_counts_a_smaller_last_minibatch():
    with pytest.warns(UserWarning, match="truncated mini-batch"):
        model = build(PPO, 3, n_steps=10, batch_size=8, n_epochs=2)
    counted = count_steps(model.policy.optimizer)
    model.learn(60)
    # Two rollouts of two epochs, each with minibatches of 8, 8, 8 and 6.
    assert len(counted) == 2 * 2 * 4
    assert env_steps_per_update(model) == 60 / 16


def test_env_steps_per_update_of_episodic_rollouts_is_measured():
    model = build(DQN, train_freq=(1, "episode"), gradient_steps=5, **OFF_POLICY)
    spans = []
    model.policy.optimizer.register_step_pre_hook(lambda optimizer, *_: spans.append(optimizer.steps_per_update))
    model.learn(100, callback=HalfLifeCallback("1_000 steps"))
    assert len(set(spans)) > 1
    # There is one entry per update, so their sum is the number of all env steps.
    assert sum(spans) == pytest.approx(model.num_timesteps)
    with pytest.raises(ValueError, match=naming("rollout_steps=None")):
        env_steps_per_update(model)
    assert env_steps_per_update(model, rollout_steps=40) == 8.0


def test_env_steps_per_update_of_gradient_steps_minus_one_is_one():
    model = build(DQN, train_freq=(1, "episode"), gradient_steps=-1, **OFF_POLICY)
    counted = count_steps(model.policy.optimizer)
    model.learn(60, callback=HalfLifeCallback("1_000 steps"))
    assert len(counted) == model.num_timesteps
    assert model.policy.optimizer.half_life == 1000.0


def weight_left_after(env_steps, algorithm, n_envs, callback, **arguments):
    """The factor by which v decays over a number of env steps, computed from alpha and the counted updates."""
    model = build(algorithm, n_envs, **arguments)
    counted = count_steps(model.policy.optimizer)
    model.learn(96, callback=callback)
    updates = len(counted) * env_steps / model.num_timesteps
    return model.policy.optimizer.param_groups[0]["alpha"] ** updates


@pytest.mark.parametrize(
    ("algorithm", "arguments"),
    [
        (A2C, {"n_steps": 6}),
        (PPO, {"n_steps": 12, "batch_size": 12, "n_epochs": 2}),
        (DQN, {"train_freq": 4, **OFF_POLICY}),
    ],
)
def test_half_life_in_steps_is_independent_of_num_envs(algorithm, arguments):
    for n_envs in (1, 4):
        left = weight_left_after(4000, algorithm, n_envs, HalfLifeCallback("4_000 steps"), **arguments)
        assert left == pytest.approx(0.5)


def test_rho_half_life_in_steps_depends_on_num_envs():
    rho = {"optimizer_kwargs": {"rho": 0.99}, "n_steps": 5}
    one = weight_left_after(345, A2C, 1, HalfLifeCallback(), **rho)
    sixteen = weight_left_after(345, A2C, 16, HalfLifeCallback(), **rho)
    assert one == pytest.approx(0.5, abs=1e-3)
    assert sixteen == pytest.approx(0.5 ** (1 / 16), abs=1e-3)


@pytest.mark.parametrize("stated_in", ["optimizer", "callback"])
def test_load_with_another_num_envs_keeps_the_half_life_in_steps(stated_in, tmp_path):
    in_optimizer = {"half_life": "4_000 steps"} if stated_in == "optimizer" else {"half_life": 7}
    in_callback = None if stated_in == "optimizer" else "4_000 steps"
    model = build(A2C, 2, optimizer_kwargs=in_optimizer, n_steps=5)
    model.learn(20, callback=HalfLifeCallback(in_callback))
    assert model.policy.optimizer.half_life == 400.0
    model.save(tmp_path / "model")

    assert A2C.load(tmp_path / "model").policy.optimizer.half_life == pytest.approx(400.0)
    env = make_vec_env("CartPole-v1", n_envs=8, seed=1)
    loaded = A2C.load(tmp_path / "model", env=env, device="cpu")
    loaded.learn(40, callback=HalfLifeCallback(in_callback), reset_num_timesteps=False)
    assert loaded.policy.optimizer.half_life == 100.0
    assert loaded.policy.optimizer.param_groups[0]["alpha"] == pytest.approx(0.5**0.01)


def logged(model, folder, callback, timesteps, log_interval):
    model.set_logger(configure(str(folder), ["json"]))
    model.learn(timesteps, callback=callback, log_interval=log_interval)
    model.logger.close()
    return [json.loads(line) for line in (folder / "progress.json").read_text().splitlines()]


def test_callback_logs_diagnostics(tmp_path):
    model = build(A2C, 2, n_steps=5)
    lines = logged(model, tmp_path, HalfLifeCallback("1_000 steps", log_interval=4), 160, log_interval=1)
    assert len(lines) == 16
    # Only every fourth rollout logs diagnostics.
    assert [index for index, line in enumerate(lines, 1) if "optim/rho" in line] == [4, 8, 12, 16]
    assert lines[-1]["optim/half_life_steps"] == 1000
    assert lines[-1]["optim/half_life_updates"] == 100
    assert 0 < lines[-1]["optim/gradient_norm"] <= 0.5 + 1e-6  # the max_grad_norm of A2C
    assert lines[-1]["optim/effective_step"] > 0


def test_callback_logs_diagnostics_of_actor_and_critic(tmp_path):
    # Episodes of Pendulum have 200 steps, and the log is written at their end.
    model = build(TD3, train_freq=10, policy_delay=2, **OFF_POLICY)
    (line,) = logged(model, tmp_path, HalfLifeCallback("1_000 steps", log_interval=1), 200, log_interval=1)
    assert line["optim/actor/half_life_steps"] == line["optim/critic/half_life_steps"] == 1000
    assert line["optim/actor/half_life_updates"] == 50
    assert line["optim/critic/half_life_updates"] == 100
    assert line["optim/actor/effective_step"] > 0
    assert line["optim/critic/second_moment"] > 0
    # When the callback records, the critic's gradients contain the gradients of the actor's loss. The callback
    # therefore records no diagnostics of the critic's gradients.
    assert "optim/critic/effective_step" not in line
    assert "optim/critic/gradient_norm" not in line
    assert "optim/critic/squared_gradient" not in line


def test_callback_logs_no_diagnostics_before_learning_starts(tmp_path):
    arguments = {**OFF_POLICY, "learning_starts": 200, "train_freq": 50}
    before, after = logged(build(SAC, **arguments), tmp_path, HalfLifeCallback(log_interval=1), 400, 1)
    assert "optim/critic/second_moment" not in before
    assert after["optim/critic/second_moment"] > 0


def test_callback_includes_the_entropy_coefficient_of_sac_if_it_uses_rmsprop():
    model = build(SAC, train_freq=4, **OFF_POLICY)
    model.learn(8, callback=HalfLifeCallback("1_000 steps"))
    assert type(model.ent_coef_optimizer) is torch.optim.Adam
    assert model.critic.optimizer.half_life == 250.0
    model.ent_coef_optimizer = rl_rms.RMSprop([model.log_ent_coef])
    model.learn(8, callback=HalfLifeCallback("1_000 steps"))
    assert model.ent_coef_optimizer.half_life == 250.0


def test_callback_verbose_prints_the_conversion(capsys):
    build(A2C, 2, n_steps=5).learn(10, callback=HalfLifeCallback("4_000 steps", verbose=1))
    assert "half-life of the policy's optimizer: 400 updates, 4000 env steps" in capsys.readouterr().out


def test_callback_with_an_unknown_algorithm_raises():
    class Evolution(BaseAlgorithm):
        def __init__(self):
            pass

        def _setup_model(self):
            raise NotImplementedError

        def learn(self, *_, **__):
            raise NotImplementedError

    with pytest.raises(ValueError, match=naming("A2C", "PPO", "Evolution", "steps_per_update")):
        env_steps_per_update(Evolution())


def test_callback_of_a_model_without_rmsprop_raises():
    model = build(A2C, optimizer_class=torch.optim.Adam)
    with pytest.raises(ValueError, match=naming("Adam", "policy", "optimizer_class")):
        model.learn(5, callback=HalfLifeCallback("1_000 steps"))


def test_env_steps_per_update_without_gradient_steps_raises():
    with pytest.raises(ValueError, match=naming("gradient_steps", "0")):
        env_steps_per_update(build(DQN, gradient_steps=0, **OFF_POLICY))


def test_env_steps_per_update_of_an_unknown_optimizer_names_it():
    with pytest.raises(ValueError, match=naming("optimizer", "actor", "'value'")):
        env_steps_per_update(build(A2C), "value")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"half_life": -1}, ("half_life", "> 0")),
        ({"half_life": "3 episodes"}, ("half_life",)),
        ({"log_interval": 0}, ("log_interval", "0")),
        ({"log_interval": math.nan}, ("log_interval", "nan")),
        ({"log_interval": "3"}, ("log_interval", "'3'")),
        ({"log_interval": True}, ("log_interval", "True")),
    ],
)
def test_callback_with_a_wrong_argument_names_it(arguments, named):
    with pytest.raises(ValueError, match=naming(*named)):
        HalfLifeCallback(**arguments)


def test_matched_half_life_uses_the_timescale_of_the_environments():
    def make_env():
        return NonStationary(gym.make("CartPole-v1"), {"length": PoissonJumps(0.1, 2.0, mean_dwell=500)})

    model = A2C(
        "MlpPolicy",
        make_vec_env(make_env, n_envs=4, seed=0),
        policy_kwargs={"optimizer_class": rl_rms.RMSprop, "optimizer_kwargs": {"half_life_bounds": (1.0, 1e6)}},
        device="cpu",
    )
    model.learn(2_000, callback=HalfLifeCallback("match"))
    values = model.policy.optimizer.diagnostics()
    # Each of the four sub-environments has its own clock, and an update has 5 env steps of each.
    assert values["match_timescale"] == pytest.approx(500 * 4 / 20)
    assert 1.0 < values["half_life_updates"] < 100.0


def test_matched_half_life_uses_a_stated_timescale():
    model = build(A2C, n_envs=2)
    model.learn(40, callback=HalfLifeCallback("match", timescale="1_000 steps"))
    assert model.policy.optimizer.diagnostics()["match_timescale"] == pytest.approx(100)
    with pytest.raises(ValueError, match=naming('half_life="match"', "timescale=None")):
        build(A2C).learn(40, callback=HalfLifeCallback("match"))
