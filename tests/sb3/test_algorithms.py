"""A2C, PPO, DQN, SAC and TD3 of Stable-Baselines3 train, save, load and continue with `rl_rms.RMSprop`."""

import runpy
from pathlib import Path

import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

import rl_rms

OFF_POLICY = {"learning_starts": 8, "batch_size": 8, "buffer_size": 100, "train_freq": 4}
ALGORITHMS = [
    (A2C, "CartPole-v1", {"n_steps": 8}),
    (PPO, "CartPole-v1", {"n_steps": 16, "batch_size": 8, "n_epochs": 2}),
    (DQN, "CartPole-v1", OFF_POLICY),
    (SAC, "Pendulum-v1", OFF_POLICY),
    (TD3, "Pendulum-v1", OFF_POLICY),
]


def build(algorithm, env, optimizer_class, optimizer_kwargs, **arguments):
    return algorithm(
        "MlpPolicy",
        env,
        policy_kwargs={
            "optimizer_class": optimizer_class,
            "optimizer_kwargs": optimizer_kwargs,
            "net_arch": [16],
        },
        seed=0,
        device="cpu",
        **arguments,
    )


def optimizers(model):
    """Optimizers of the policy: one, or one each for actor and critic."""
    holders = [model.policy, getattr(model, "actor", None), getattr(model, "critic", None)]
    found = [holder.optimizer for holder in holders if hasattr(holder, "optimizer")]
    assert found
    return found


@pytest.mark.parametrize(("algorithm", "env", "arguments"), ALGORITHMS, ids=[a.__name__ for a, *_ in ALGORITHMS])
def test_model_trains_saves_loads_and_continues(algorithm, env, arguments, tmp_path):
    kwargs = {"half_life": 69, "eps": 1e-5, "bias_correction": True, "momentum": 0.5, "centered": True}
    model = build(algorithm, env, rl_rms.RMSprop, kwargs, **arguments)
    before = [param.clone() for param in model.policy.parameters()]
    model.learn(48)
    assert any(not torch.equal(*pair) for pair in zip(model.policy.parameters(), before, strict=True))
    model.save(tmp_path / "model")

    loaded = algorithm.load(tmp_path / "model", env=model.get_env(), device="cpu")
    for mine, other in zip(optimizers(loaded), optimizers(model), strict=True):
        assert type(mine) is rl_rms.RMSprop
        assert mine.half_life == pytest.approx(69)
        assert mine.param_groups[0]["eps"] == 1e-5
        saved, restored = other.state_dict()["state"], mine.state_dict()["state"]
        assert saved
        assert saved.keys() == restored.keys()
        for index in saved:
            assert saved[index].keys() == restored[index].keys()
            assert saved[index]["initial_weight"] == restored[index]["initial_weight"] < 1
            for name in ("step", "square_avg", "grad_avg", "momentum_buffer"):
                assert torch.equal(saved[index][name], restored[index][name])

    counts = [[state["step"].item() for state in optimizer.state.values()] for optimizer in optimizers(loaded)]
    loaded.learn(48, reset_num_timesteps=False)
    for optimizer, before_going_on in zip(optimizers(loaded), counts, strict=True):
        assert optimizer.half_life == pytest.approx(69)
        after = [state["step"].item() for state in optimizer.state.values()]
        assert all(now > then > 0 for now, then in zip(after, before_going_on, strict=True))
    assert all(torch.isfinite(param).all() for param in loaded.policy.parameters())


def test_model_equals_one_with_the_rmsprop_of_stable_baselines3():
    kwargs = {"alpha": 0.99, "eps": 1e-5}
    theirs = build(A2C, "CartPole-v1", RMSpropTFLike, dict(kwargs)).learn(500)
    as_ours = {**kwargs, "eps_in_sqrt": True, "initial_second_moment": 1.0}
    ours = build(A2C, "CartPole-v1", rl_rms.RMSprop, as_ours).learn(500)
    start = build(A2C, "CartPole-v1", rl_rms.RMSprop, as_ours)
    for mine, other, first in zip(*(model.policy.parameters() for model in (ours, theirs, start)), strict=True):
        assert not torch.equal(other, first)
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_learning_rate_schedule_reaches_the_optimizer():
    model = build(
        A2C, "CartPole-v1", rl_rms.RMSprop, {"half_life": 69}, learning_rate=lambda left: (1 + left) * 1e-3
    )
    model.learn(10)
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)


def test_half_life_in_steps_is_converted(tmp_path):
    kwargs = {"half_life": "4_000 steps", "steps_per_update": 5}
    model = build(A2C, "CartPole-v1", rl_rms.RMSprop, kwargs).learn(20)
    model.save(tmp_path / "model")
    loaded = A2C.load(tmp_path / "model", env=model.get_env(), device="cpu").learn(20)
    assert loaded.policy.optimizer.half_life == 800.0


def test_sb3_optimizer_example_runs(capsys):
    example = Path(__file__).parents[2] / "examples" / "sb3_optimizer.py"
    runpy.run_path(str(example))["main"](total_timesteps=800)
    printed = capsys.readouterr().out
    assert "half-life: 200.0 updates" in printed
    assert "effective_step: " in printed
    assert "after 800 steps" in printed
