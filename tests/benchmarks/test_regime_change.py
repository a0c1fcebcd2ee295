import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rl_rms.agents import A2C
from rl_rms.agents.losses import actor_critic_loss
from rl_rms.envs import make_vec

PATH = Path(__file__).parents[2] / "benchmarks" / "regime_change.py"


@pytest.fixture(scope="module")
def small_run(benchmark):
    torch.set_num_threads(1)
    return benchmark.run(0, None, jump=12_000, window=(-20, 40), num_copies=8, warm_up=10)


def part_of(rollout, start, stop):
    inside = (rollout.final_index[:, 1] >= start) & (rollout.final_index[:, 1] < stop)
    arrays = ("observations", "actions", "rewards", "terminated", "truncated", "valid", "starts")
    return replace(
        rollout,
        **{name: getattr(rollout, name)[:, start:stop] for name in arrays},
        final_index=rollout.final_index[inside] - np.array([0, start]),
        final_observations=rollout.final_observations[inside],
    )


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_gradient_of_each_part_equals_that_of_the_agent(benchmark, mode):
    vector_kwargs = {"autoreset_mode": mode}
    env = make_vec("CartPole-v1", 12, vector_kwargs=vector_kwargs, max_episode_steps=14)
    options = {"gae_lambda": 0.95, "n_steps": 8, "normalize_observation": False, "normalize_reward": False}
    agent = A2C(env, ent_coef=1.0, seed=0, **options)
    with torch.no_grad():  # a nearly deterministic policy, because the entropy of a uniform policy has gradient 0
        agent.policy.actor_network[-1].weight *= 100.0
    trainer = agent.make_trainer()
    trainer.collect()
    rollout, _ = trainer.collect()
    # With NextStep, the vector steps that reset a sub-environment are not valid. SameStep has final observations.
    assert rollout.valid.all() == (mode == "SameStep") == (len(rollout.final_index) > 0)
    gradients = benchmark.gradients_of_parts(agent, rollout, 3)
    for part in range(3):
        batch = agent.learner.batch(part_of(rollout, 4 * part, 4 * part + 4), None, 0)
        loss, _ = actor_critic_loss(agent.policy, batch)
        expected = torch.autograd.grad(loss, list(agent.policy.parameters()))
        torch.testing.assert_close(gradients[part], torch.cat([one.flatten() for one in expected]))


def test_clip_scales_to_the_norm_and_keeps_shorter_gradients(benchmark):
    torch.testing.assert_close(benchmark.clipped(torch.tensor([3.0, 4.0]), 0.5), torch.tensor([0.3, 0.4]))
    short = torch.tensor([0.03, 0.04])
    assert benchmark.clipped(short, 0.5).equal(short)
    assert benchmark.clipped(torch.tensor([3.0, 4.0]), None).equal(torch.tensor([3.0, 4.0]))


def test_tracking_error_equals_hand_computed_values(benchmark):
    # The mean squares s = (2, 8) and v = (4, 2) have the ratios 1/2 and 4. The error is the mean of
    # (-1/2 + ln 2) / 2 and (3 - ln 4) / 2.
    squares = torch.tensor([[1.0, 8.0, 0.0], [3.0, 8.0, 0.0]])
    errors, noise = benchmark.tracking_error(squares, torch.tensor([[4.0, 2.0, 1.0], [2.0, 8.0, 1.0]]))
    assert errors.tolist() == pytest.approx([(2.5 - math.log(2)) / 4, 0.0])
    # The squares are 1 and 3 with the mean 2, and 8 and 8 with the mean 8.
    assert noise == pytest.approx((math.log(2) - math.log(3) / 2) / 4)


def test_noise_equals_the_error_of_a_perfect_accumulator(benchmark):
    squares = torch.randn(64, 20_000, generator=torch.Generator().manual_seed(0)).square()
    errors, noise = benchmark.tracking_error(squares, torch.ones(1, 20_000))
    assert noise == pytest.approx(float(errors[0]), rel=0.1)


def test_copies_have_the_jump_at_the_same_update(benchmark):
    changes = {"force_mag": benchmark.Step(before=10.0, after=-10.0, at=1000)}
    copies = benchmark.Copies(4, changes, seed=0)
    agent = A2C(make_vec("CartPole-v1", 16), n_steps=8, seed=0)
    forces = []
    step = copies.env.step

    def watched(actions):
        forces.append(copies.env.parameters["force_mag"])
        return step(actions)

    copies.env.step = watched
    copies.play(agent, clock=952)  # 952, 968, 984, then 1000
    assert forces == [10.0] * 3 + [-10.0] * 5


def test_shadow_with_the_half_life_of_the_run_equals_the_optimizer(benchmark):
    env = make_vec("CartPole-v1", 16)
    agent = A2C(env, n_steps=8, max_grad_norm=0.5, half_life=benchmark.OWN_HALF_LIFE, seed=0)
    params = list(agent.policy.parameters())
    shadow = benchmark.Shadow(sum(param.numel() for param in params), math.inf, 0)
    vs = []

    def observe(agent):
        gradient = torch.cat([param.grad.flatten() for param in params])
        vs.append(shadow.update(benchmark.clipped(gradient, 0.5)))

    agent.learn(2000, callback=observe)
    own = torch.cat([agent.optimizer.state[param]["square_avg"].flatten() for param in params])
    weight = 1 - 2 ** (-agent.num_updates / benchmark.OWN_HALF_LIFE)
    row = benchmark.ROWS.index("69")
    torch.testing.assert_close(vs[-1][row] * weight, own, rtol=1e-4, atol=1e-12)


def test_estimated_half_lives_depend_on_the_gradients(benchmark):
    shadow = benchmark.Shadow(50, 100.0, 0)
    start = shadow.half_lives
    generator = torch.Generator().manual_seed(0)
    for update in range(640):
        shadow.update(torch.randn(50, generator=generator) * (1.0 if update // 40 % 2 else 20.0))
    assert shadow.half_lives[: len(benchmark.HALF_LIVES)] == list(benchmark.HALF_LIVES)
    assert shadow.half_lives[-1] != start[-1]


def test_measure_does_not_change_the_run(benchmark, small_run):
    few = benchmark.run(0, None, jump=12_000, window=(-20, 40), num_copies=2, warm_up=2)
    assert few["jumped_at"] == small_run["jumped_at"]
    assert few["v"][-1] == pytest.approx(small_run["v"][-1])
    assert few["second_moment"] != small_run["second_moment"]


def test_jump_enlarges_gradients_and_short_half_lives_adapt_first(benchmark, small_run):
    updates = np.array(small_run["updates"])
    assert updates[0] >= -21
    assert updates[-1] == 40
    moment = np.array(small_run["second_moment"])
    after = (updates >= 0) & (updates < 5)
    assert moment[after].mean() > 3 * moment[updates < 0].mean()
    errors = np.array(small_run["tracking_error"])[after].mean(0)
    assert errors[benchmark.ROWS.index("8")] < errors[benchmark.ROWS.index("690")]


def test_summary_has_table_and_figure(benchmark, small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "PHASES", {"before": (-20, 0), "after": (0, 40)})
    summary = benchmark.summarize([small_run, small_run])
    errors = np.array(small_run["tracking_error"])[np.array(small_run["updates"]) < 0]
    assert summary["before"]["mean"] == pytest.approx(errors.mean(0).tolist())
    assert summary["before"]["low"] == pytest.approx(summary["before"]["high"])
    fixed = summary["after"]["mean"][: len(benchmark.HALF_LIVES)]
    assert summary["after"]["best"] == benchmark.HALF_LIVES[fixed.index(min(fixed))]
    thin = benchmark.thinned(small_run)
    row = benchmark.SHOWN.index("69")
    assert benchmark.medians([thin, thin])["before"][row] == pytest.approx(
        np.median(errors[:, benchmark.ROWS.index("69")])
    )
    assert len(benchmark.table({"x": summary}, {"x": [thin]}).splitlines()) == 6
    benchmark.draw([benchmark.thinned(small_run)] * 2, tmp_path / "second_moment.png")
    assert (tmp_path / "second_moment.png").stat().st_size > 10_000


def test_documentation_has_the_figures_of_the_committed_runs():
    raw = json.loads((PATH.parent / "results" / "regime_change.json").read_text())
    runs = raw["runs"]["no clipping"]
    updates = np.array(runs[0]["updates"])
    late = (updates >= 200) & (updates < 300)
    second_moment = np.array([run["second_moment"] for run in runs])
    v = np.array([run["v"] for run in runs])
    page = " ".join((PATH.parents[1] / "docs" / "half_life.md").read_text().split())
    for half_life, words in (
        ("69", "v is {:.0f} times the true second"),
        ("8", "half-life of 8, v is {:.1f} times"),
    ):
        ratio = v[:, :, raw["rows_of_runs"].index(half_life)] / second_moment
        assert words.format(np.median(ratio[:, late])) in page
