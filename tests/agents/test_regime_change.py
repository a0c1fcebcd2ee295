import gymnasium as gym
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rl_rms
from rl_rms.agents import A2C, A2CConfig
from rl_rms.agents.regime_change import RegimeChangeHandler
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Step
from tests.naming import naming


def stepped(half_life=100, num_updates=5, **options):
    """An optimizer after ``num_updates`` updates with gradients of 1."""
    module = torch.nn.Linear(2, 1)
    optimizer = rl_rms.RMSprop(module.parameters(), lr=0.1, half_life=half_life, bias_correction=True, **options)
    for _ in range(num_updates):
        update(optimizer)
    return optimizer


def update(optimizer, size=1.0):
    for param in optimizer.param_groups[0]["params"]:
        param.grad = torch.full_like(param, size)
    optimizer.step()


def second_moments(optimizer):
    return [state["square_avg"].clone() for state in optimizer.state.values()]


def response(optimizer, **options):
    made = RegimeChangeHandler(A2CConfig(**options), optimizer)
    assert made.enter(0) is False
    return made


def test_on_change_keep_changes_nothing():
    optimizer = stepped()
    before = second_moments(optimizer)
    changes = response(optimizer)
    assert changes.enter(1) is True
    assert changes.enter(1) is False
    assert all(torch.equal(one, other) for one, other in zip(second_moments(optimizer), before, strict=True))
    assert optimizer.half_life == pytest.approx(100)


@pytest.mark.parametrize("options", [{}, {"fused": False}, {"momentum": 0.9, "centered": True}])
def test_on_change_reset_equals_a_new_optimizer(options):
    optimizer = stepped(**options)
    response(optimizer, on_change="reset").enter(1)
    fresh = rl_rms.RMSprop(
        [param.detach().clone().requires_grad_() for param in optimizer.param_groups[0]["params"]],
        lr=0.1,
        half_life=100,
        bias_correction=True,
        **options,
    )
    for one in (optimizer, fresh):
        update(one, 3.0)
        update(one, 0.5)
    for mine, theirs in zip(optimizer.param_groups[0]["params"], fresh.param_groups[0]["params"], strict=True):
        assert torch.equal(mine, theirs)
    assert [float(state["step"]) for state in optimizer.state.values()] == [2.0, 2.0]


def test_on_change_reset_of_another_optimizer_clears_its_state():
    module = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(module.parameters())
    update(optimizer)
    response(optimizer, on_change="reset").enter(1)
    assert not optimizer.state


@pytest.mark.parametrize("half_life", [100, "match"])
def test_on_change_forget_shortens_the_half_life_for_some_updates(half_life):
    timescale = {"timescale": "1_000 updates"} if half_life == "match" else {}
    optimizer = stepped(half_life, **timescale)
    usual = optimizer.half_life
    assert usual > 10
    changes = response(optimizer, on_change="forget", forget_half_life=2.0, forget_updates=3)
    changes.enter(1)
    found = []
    for _ in range(5):
        update(optimizer)
        found.append(optimizer.half_life)
        changes.after_update()
    assert found == pytest.approx([2.0, 2.0, 2.0, usual, usual])


def test_on_change_forget_second_change_restarts_the_count():
    optimizer = stepped()
    changes = response(optimizer, on_change="forget", forget_half_life=2.0, forget_updates=3)
    found = []
    for regime in (1, 1, 2, 2, 2, 2, 2):
        changes.enter(regime)
        found.append(optimizer.half_life)
        changes.after_update()
    assert found == pytest.approx([2.0] * 5 + [100.0] * 2)


def test_on_change_forget_without_half_life_raises():
    with pytest.raises(ValueError, match=naming('on_change="forget"', "Adam")):
        A2C("CartPole-v1", optimizer=torch.optim.Adam, on_change="forget")


def make_env():
    return make_vec("CartPole-v1", 4, {"gravity": Step(before=9.8, after=20.0, at=400)}, seed=0)


def test_on_change_acts_at_the_change_logs_it_and_continues_after_loading(tmp_path):
    half_lives = []

    def watch(agent):
        half_lives.append((agent.num_timesteps, agent.optimizer.half_life))
        if agent.num_updates == 25:
            agent.save(tmp_path / "agent")
        return agent.num_updates < 40

    options = {"half_life": 300, "on_change": "forget", "forget_half_life": 5, "forget_updates": 10}
    whole = A2C(make_env(), n_steps=5, seed=0, **options).learn(10**6, callback=watch, log_dir=tmp_path / "run")
    short = [steps for steps, half_life in half_lives if half_life == pytest.approx(5)]
    assert len(short) == 9
    assert 400 <= short[0] <= 440
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    (marked,) = events.Tensors("events/changes/text_summary")
    assert marked.tensor_proto.string_val[0] == b"regime 1: forget"
    assert 400 <= marked.step <= 420
    loaded = A2C.load(tmp_path / "agent", env=make_env())
    assert loaded.optimizer.half_life == pytest.approx(5)
    loaded.learn(10**6, callback=lambda agent: agent.num_updates < 40)
    assert loaded.optimizer.half_life == pytest.approx(300)
    for mine, theirs in zip(loaded.policy.parameters(), whole.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_on_change_in_a_stationary_environment_does_nothing():
    agent = A2C(gym.make_vec("CartPole-v1", 2), on_change="reset", seed=0).learn(200)
    assert all(float(state["step"]) == agent.num_updates for state in agent.optimizer.state.values())
