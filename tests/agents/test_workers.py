"""Several processes that train one agent, compared with one process that has all sub-environments."""

import dataclasses
import datetime
import itertools
import os
import re
import warnings
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from gymnasium.vector import SyncVectorEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.agents import A2C, PPO, MetaConfig, PolicyConfig, Reinforce
from rl_rms.agents.metrics import read_metrics
from rl_rms.agents.moments import RunningMeanVariance, decaying_weights
from rl_rms.agents.policies import ActorCriticPolicy
from rl_rms.agents.rollout import Episode
from rl_rms.agents.workers import ALONE, LostWorkersError, SharedRandomSource, Workers
from rl_rms.envs import ResilientSyncVectorEnv, make_vec
from rl_rms.envs.curricula import LinearRamp
from rl_rms.envs.faults import MAX_RESTARTS_IN_A_ROW, EnvError
from rl_rms.envs.schedules import AdversarialBurst, PoissonJumps, Redraw, Sinusoid, Step
from tests.faulty import Faulty
from tests.naming import naming

NUM_ENVS = 4
CHANGES = {"length": Sinusoid(mean=0.6, amplitude=0.4, period=500), "gravity": Redraw(low=5, high=15, every=160)}
JUMP = Step(before=0.0, after=9.0, at=4_500)
JUMPS = {"gravity": PoissonJumps(low=5, high=15, mean_dwell=200)}
AGENTS = {"a2c": A2C, "ppo": partial(PPO, n_steps=16, batch_size=24, n_epochs=3), "reinforce": Reinforce}


def make_env(id="CartPole-v1", changes=None, shard=(0, 1), mode="SameStep", **options):
    return make_vec(
        id,
        NUM_ENVS // shard[1],
        changes,
        seed=5,
        shard=shard,
        **options,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
    )


def train(
    workers,
    algorithm,
    env_steps,
    id="CartPole-v1",
    changes=None,
    mode="SameStep",
    sharing="shared",
    sync="global",
    **options,
):
    """Train with float64 networks and return the state of the agent as plain data."""
    torch.set_num_threads(1)
    env = make_env(id, changes, (workers.rank, workers.size), mode, sharing=sharing)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        policy = ActorCriticPolicy(env.single_observation_space, env.single_action_space, PolicyConfig()).double()
    policy.encoder.register_forward_hook(lambda module, inputs, output: output.double())
    agent = AGENTS[algorithm](env, policy=policy, seed=7, learning_rate=2e-3, **options).join(workers, sync)
    clocks, episodes = [], agent.episodes
    # A worker does not know the independent clocks of other workers.
    clock = (lambda: None) if sharing == "independent" else (lambda: env.clock)
    agent.learn(
        env_steps,
        callback=lambda trained: clocks.append((trained.num_timesteps, trained.session.regime(), clock())),
    )
    return {
        "params": [param.detach().numpy() for param in agent.policy.parameters()],
        "episodes": [dataclasses.astuple(one) for one in episodes]
        if mode != "NextStep"
        # Within a rollout, a worker does not know the reset frames of other workers. The env steps at which
        # episodes end, and the order of the episodes, are therefore approximate.
        else sorted((one.env_index, one.ret, one.length) for one in episodes),
        "clocks": clocks,
        "half_life": getattr(agent.optimizer, "half_life", None),
        "moments": [
            {name: value for name, value in one.state_dict().items() if name != "returns"}
            for one in agent.learner.scaling.normalizers.values()
        ],
        "generator": agent.generator.bit_generator.state["state"]["state"],
    }


def save_training(folder, workers):
    """Train for 1,000 env steps in a changing environment; write and return the state of this worker's agent."""
    result = train(workers, "a2c", 1_000, changes=CHANGES, half_life="2_000 steps")
    torch.save(result, f"{folder}/{workers.rank}.pt")
    return result


def _worker(rank, size, folder, timeout, what, args, kwargs):
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(seconds=timeout),
    )
    try:
        torch.save(what(Workers.of_process_group(), *args, **kwargs), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def together(folder, what, *args, size=2, timeout=60.0, **kwargs):
    """Call a function with a `Workers` object in each of several processes, and return the results."""
    # Forked processes start with all imports and this module.
    arguments = (size, str(folder), timeout, what, args, kwargs)
    mp.start_processes(_worker, arguments, nprocs=size, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


NORMALIZED = {"normalize_observation": True, "normalize_reward": True, "normalize_advantage": True}


@pytest.mark.parametrize(
    ("algorithm", "env_steps", "options"),
    [
        ("a2c", 1_000, {}),
        ("a2c", 1_000, {"changes": CHANGES, "half_life": "2_000 steps"}),
        ("a2c", 1_000, {"changes": CHANGES, "half_life": "match", "mode": "Disabled", **NORMALIZED}),
        ("a2c", 1_000, {"mode": "NextStep", "optimizer": torch.optim.Adam, "ent_coef": 0.01}),
        ("a2c", 1_000, {"id": "Pendulum-v1", "gae_lambda": 0.9, **NORMALIZED}),
        ("a2c", 1_000, {"normalize_observation": "200 steps", "normalize_reward": 9}),
        ("a2c", 1_000, {"changes": JUMPS, "sharing": "independent", "mode": "NextStep", "on_change": "reset"}),
        ("a2c", 1_000, {"changes": JUMPS, "sharing": "phase", "on_change": "forget"}),
        ("ppo", 300, {"changes": CHANGES, "half_life": "2_000 steps", "target_kl": 0.01}),
        ("ppo", 300, {"mode": "NextStep", "batch_size": 2, "clip_range_vf": 0.1}),
        ("ppo", 300, {"id": "Pendulum-v1", "optimizer": torch.optim.Adam, **NORMALIZED}),
        ("reinforce", 3_000, {"changes": CHANGES}),
        ("reinforce", 3_000, {"mode": "NextStep", "episodes_per_env": 2, **NORMALIZED}),
    ],
)
def test_two_workers_have_the_weights_of_one_process(algorithm, env_steps, options, tmp_path):
    alone = train(ALONE, algorithm, env_steps, **options)
    for one in together(tmp_path, train, algorithm, env_steps, **options):
        for own, expected in zip(one.pop("params"), alone["params"], strict=True):
            assert own == pytest.approx(expected, abs=1e-10)
        assert_alike(one, {name: value for name, value in alone.items() if name != "params"})


def test_two_workers_forget_at_the_same_jump_as_one_process(tmp_path):
    options = {"changes": {"observation.offset": JUMP}, "normalize_observation": {"on_jump": "forget"}}
    expected = train(ALONE, "a2c", 5_600, **options)["moments"]
    assert expected[0]["parts"][0]["detector"]["num_jumps"] == 1
    for one in together(tmp_path, train, "a2c", 5_600, **options):
        assert_alike(one["moments"], expected)


def numbers(value):
    """Flatten plain data to a list of its keys and values."""
    if isinstance(value, dict):
        return [one for name in sorted(value) for one in (name, *numbers(value[name]))]
    return [one for part in value for one in numbers(part)] if isinstance(value, (list, tuple)) else [value]


def assert_alike(one, other):
    """Assert equality up to rounding errors."""
    for own, expected in zip(numbers(one), numbers(other), strict=True):
        assert own == (pytest.approx(expected, rel=1e-9, abs=1e-12) if isinstance(expected, float) else expected)


@pytest.mark.parametrize("sharing", ["shared", "phase", "independent"])
def test_shards_of_an_environment_equal_the_whole(sharing):
    changes = {**CHANGES, "reward.offset": Sinusoid(mean=1.0, amplitude=0.5, period=300)}
    whole = make_env(changes=changes, sharing=sharing)
    parts = [make_env(changes=changes, sharing=sharing, shard=(k, 2)) for k in range(2)]
    whole.reset(seed=3)
    for k, part in enumerate(parts):
        part.reset(seed=3 + 2 * k)
        assert part.timescale == whole.timescale
    for t in range(150):
        actions = np.full(NUM_ENVS, t % 2)
        _, rewards, *_ = whole.step(actions)
        ours = np.concatenate([part.step(actions[:2])[1] for part in parts])
        assert ours == pytest.approx(rewards)
        assert parts[0].clock == parts[1].clock == whole.clock
        for name, value in whole.parameters.items():
            seen = np.concatenate([np.broadcast_to(part.parameters[name], 2) for part in parts])
            assert seen == pytest.approx(np.broadcast_to(value, NUM_ENVS))
    for one in (whole, *parts):
        one.clock = 4_000
    assert parts[0].clocks.tolist() + parts[1].clocks.tolist() == whole.clocks.tolist()


def test_shards_of_an_environment_have_different_noise():
    first, second = (make_env(changes={"observation.noise": 0.5}, shard=(k, 2)) for k in range(2))
    seen = [part.reset(seed=0)[0] for part in (first, second)]
    assert not np.allclose(*seen)


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0)])
def test_make_vec_with_an_invalid_shard_raises(shard):
    with pytest.raises(ValueError, match=naming("shard", str(shard))):
        make_vec("CartPole-v1", 2, shard=shard)


def meet(workers):
    """Results of the collective operations."""
    rank = workers.rank
    tensors = [torch.full((2, 2), float(rank)), torch.full((3,), 10.0 + rank, dtype=torch.float64)]
    workers.average(tensors, 0.5)
    own = [Episode(float(rank), 5 + i, i, 100 * i + 1, None if i else bool(rank)) for i in range(rank + 1)]
    counts, episodes = workers.gather_rollouts(np.array([rank, 7.0]), own, num_envs=4)
    return {
        "sum": workers.sum(np.array([rank, 1.0])),
        "all_gather": workers.all_gather(np.array([[rank, 2.0 * rank]])),
        "all_true": [workers.all_true(True), workers.all_true(rank == 1), workers.all_true(False)],
        "tensors": [tensor.tolist() for tensor in tensors],
        "mean": workers.mean({"b": float(rank), "a": 1.0}, weight=rank),
        "counts": counts.tolist(),
        "episodes": [dataclasses.astuple(one) for one in episodes],
        "none": workers.gather_rollouts(np.ones(1), [], num_envs=4)[1],
    }


def refuse(*_):
    raise PermissionError


def refuse_in_one_worker(path, readlink=os.readlink):
    if dist.is_initialized() and dist.get_rank() == 1:
        raise PermissionError
    return readlink(path)


@pytest.mark.parametrize(
    "refused", [{}, {"memfd_create": refuse}, {"readlink": refuse_in_one_worker}, {"pidfd_open": refuse}]
)
def test_collective_operations_return_the_values_of_all_workers(refused, tmp_path, monkeypatch):
    for name, function in refused.items():
        monkeypatch.setattr(os, name, function)
    for received in together(tmp_path, meet, size=3):
        assert received["sum"].tolist() == [3, 3]
        assert received["all_gather"].tolist() == [[[0, 0]], [[1, 2]], [[2, 4]]]
        assert received["all_true"] == [True, False, False]
        assert received["tensors"] == [[[1.5, 1.5], [1.5, 1.5]], [16.5, 16.5, 16.5]]
        assert received["mean"] == pytest.approx({"a": 1.0, "b": 5 / 3})
        assert received["counts"] == [[0, 7], [1, 7], [2, 7]]
        assert received["episodes"] == [
            (0.0, 5, 0, 1, False),
            (1.0, 5, 4, 1, True),
            (2.0, 5, 8, 1, True),
            (1.0, 6, 5, 101, None),
            (2.0, 6, 9, 101, None),
            (2.0, 7, 10, 201, None),
        ]
        assert received["none"] == []


def meet_in_memory(workers):
    dist.all_reduce = dist.all_gather = None  # in this process only
    many = [Episode(float(workers.rank), 5, i, i, None) for i in range(100 * workers.rank)]
    counts, episodes = workers.gather_rollouts(np.array([7.0]), many, num_envs=200)
    return workers.sum(np.ones(2)).tolist(), counts.tolist(), [one.env_index for one in episodes]


def test_workers_on_one_machine_exchange_through_memory(tmp_path):
    assert together(tmp_path, meet_in_memory) == [([2, 2], [[7], [7]], list(range(200, 300)))] * 2


def test_shared_generator_draws_the_rows_of_one_batch():
    for kind in ("standard_exponential", "standard_normal", "random"):
        whole = getattr(np.random.default_rng(4), kind)((6, 3), dtype=np.float32)
        parts = [SharedRandomSource(np.random.default_rng(4), Workers(rank, 3)) for rank in range(3)]
        drawn = [getattr(part, kind)((2, 3), dtype=np.float32) for part in parts]
        assert np.array_equal(np.concatenate(drawn), whole)


def moments(workers, rollouts, half_life):
    running = RunningMeanVariance((2,))
    for values, valid in rollouts:
        own, own_valid = values[:, workers.rank :: workers.size], valid[:, workers.rank :: workers.size]
        running.update(own[own_valid], decaying_weights(own_valid, half_life, workers), workers)
    return running.state_dict()


@pytest.mark.parametrize("half_life", [float("inf"), 9.0])
def test_running_mean_variance_of_two_workers_equals_one_process(tmp_path, half_life):
    rng = np.random.default_rng(0)
    # The last rollout has no valid transition in one worker.
    rollouts = [
        (rng.normal(k, 3.0, (steps, 4, 2)), rng.random((steps, 4)) < 0.8) for k, steps in enumerate((1, 7))
    ]
    rollouts.append((rng.normal(size=(3, 4, 2)), np.array([[True, False, True, False]] * 3)))
    expected = moments(ALONE, rollouts, half_life)
    for one in together(tmp_path, moments, rollouts, half_life):
        assert one["weight"] == pytest.approx(expected["weight"], rel=1e-12)
        assert one["mean"] == pytest.approx(expected["mean"], rel=1e-12)
        assert one["variance"] == pytest.approx(expected["variance"], rel=1e-12)


def recurrent_ppo(workers, sync):
    """Parameters and updates of a recurrent PPO after one rollout, in minibatches of one sub-environment."""
    torch.set_num_threads(1)
    env = make_env(shard=(workers.rank, workers.size))
    policy = PolicyConfig(recurrent="gru", recurrent_size=8)
    agent = PPO(env, n_steps=16, batch_size=16, n_epochs=2, target_kl=0.05, policy=policy, seed=0)
    agent.join(workers, sync).learn(60)
    params = torch.nn.utils.parameters_to_vector(agent.policy.parameters()).detach()
    return {"params": params, "updates": agent.num_updates}


def test_two_workers_with_a_recurrent_ppo_equal_one_process(tmp_path):
    alone = recurrent_ppo(ALONE, "global")
    assert alone["updates"] == 2 * NUM_ENVS
    for one in together(tmp_path, recurrent_ppo, "global"):
        assert one["updates"] == alone["updates"]
        torch.testing.assert_close(one["params"], alone["params"], rtol=1e-3, atol=1e-5)


def test_sync_local_of_ppo_gives_all_workers_the_same_weights(tmp_path):
    first, second = together(tmp_path, recurrent_ppo, "local")
    assert torch.equal(first["params"], second["params"])


def local_and_global(workers):
    """The step of the parameters and this worker's gradient, for one update with ``sync="local"``."""
    agent = A2C(make_env(shard=(workers.rank, workers.size)), learning_rate=1e-2, seed=0).join(workers, "local")
    start = [param.detach().clone() for param in agent.policy.parameters()]
    step, own = agent.optimizer.step, []

    def record():
        step()
        own.extend(param.grad.clone() for param in agent.policy.parameters())  # after clipping

    agent.optimizer.step = record
    agent.learn(1)
    ends = [param.detach() for param in agent.policy.parameters()]
    return {"steps": [end - begin for end, begin in zip(ends, start, strict=True)], "gradients": own}


def test_sync_local_averages_the_steps_of_workers(tmp_path):
    first, second = together(tmp_path, local_and_global)
    for step, other, *gradients in zip(
        *(one[key] for key in ("steps", "gradients") for one in (first, second)), strict=True
    ):
        assert torch.equal(step, other)
        assert not torch.equal(*gradients)
        # With bias correction, the first step of a worker's RMSprop is about -lr times the sign of its gradient.
        signs = [gradient / (gradient.abs() + 1e-5) for gradient in gradients]
        assert step.numpy() == pytest.approx(-1e-2 * 0.5 * (signs[0] + signs[1]).numpy(), rel=1e-3, abs=1e-7)


def waiting(workers, pipe):
    """Worker 1 takes part in no collective operation until worker 0 has raised an error."""
    if workers.rank == 1:
        return Path(pipe).read_text()  # blocks until the other worker writes
    try:
        workers.sum(np.ones(1))
    except LostWorkersError as error:
        Path(pipe).write_text("given up")
        return str(error)
    return None


def test_hung_worker_times_out(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    said, other = together(tmp_path, waiting, str(tmp_path / "pipe"), timeout=1.0)
    assert "worker 0 of 2 lost another worker" in said
    assert other == "given up"


def stopped(workers):
    agent = A2C(make_env(shard=(workers.rank, workers.size)), n_steps=5, seed=0).join(workers)
    agent.learn(10_000, callback=lambda one: not (workers.rank == 1 and one.num_updates == 7))
    return {"updates": agent.num_updates, "num_timesteps": agent.num_timesteps}


def test_callback_stop_in_one_worker_stops_all(tmp_path):
    assert together(tmp_path, stopped) == [{"updates": 7, "num_timesteps": 140}] * 2


def interrupted(workers):
    agent = A2C(make_env(shard=(workers.rank, workers.size)), seed=0).join(workers)
    try:
        agent.learn(
            10_000, callback=lambda one: one.interrupt() if workers.rank == 1 and one.num_updates == 7 else None
        )
    except KeyboardInterrupt:
        return {"updates": agent.num_updates, "clock": agent.session.changing.clock - agent.num_timesteps}
    return {}


def test_interrupt_in_one_worker_interrupts_all(tmp_path):
    # The clock does not count the discarded rollout.
    assert together(tmp_path, interrupted) == [{"updates": 7, "clock": 0}] * 2


def resumed(workers, path, sharing, *, saves=False):
    """Train a new agent and save it, or prepare to continue the saved agent."""
    changes, shard = {"g": JUMPS["gravity"]}, (workers.rank, workers.size)
    env = make_env("Pendulum-v1", changes, shard, "NextStep", sharing=sharing, wrappers=["NormalizeObservation"])
    agent = (A2C(env, seed=1, normalize_reward=True) if saves else A2C.load(path, env=env)).join(workers)
    if saves:
        agent.learn(400)
        if workers.rank == 0:
            agent.save(path)
    agent.prepare()
    count = env.unwrapped.envs[0].get_wrapper_attr("obs_rms").count
    return env.clock, count, agent.reward_normalizer.returns.any()


@pytest.mark.parametrize("sharing", ["shared", "independent"])
def test_resumed_workers_continue_clock_and_wrappers_in_new_episodes(sharing, tmp_path):
    path = tmp_path / "agent.safetensors"
    (clock, count, _), _ = together(tmp_path, resumed, path, sharing, saves=True)
    (tmp_path / "meeting").unlink(missing_ok=True)
    assert clock == 416
    # The first observations of the new episodes also count.
    expected = (clock, pytest.approx(count + 1), False)
    assert together(tmp_path, resumed, path, sharing) == [expected, expected]
    assert resumed(ALONE, path, sharing) == expected


def logged(workers, folder):
    agent = A2C(make_env(changes=CHANGES, shard=(workers.rank, workers.size)), seed=0).join(workers)
    agent.learn(2_000, log_dir=folder if workers.rank == 0 else None, log_interval=50)


def test_log_of_workers_covers_all_episodes(tmp_path):
    together(tmp_path, logged, tmp_path / "run")
    agent = A2C(make_env(changes=CHANGES), seed=0).learn(2_000, log_dir=tmp_path / "alone", log_interval=50)
    ours, alone = (EventAccumulator(str(tmp_path / name)).Reload() for name in ("run", "alone"))
    assert set(ours.Tags()["scalars"]) == set(alone.Tags()["scalars"])
    for tag in (
        "rollout/ep_rew_mean",
        "train/policy_gradient_loss",
        "train/value_loss",
        "env/length",
        "optim/half_life_steps",
    ):
        one, other = ours.Scalars(tag), alone.Scalars(tag)
        assert [event.step for event in one] == [event.step for event in other]
        # In float32, the order of summation changes the result after some updates.
        assert one[0].value == pytest.approx(other[0].value, rel=1e-4)
    assert len(list((tmp_path / "run").glob("events*"))) == 1
    assert agent.num_timesteps == ours.Scalars("env/length")[-1].step


def logged_ppo(workers, folder):
    env = make_env(shard=(workers.rank, workers.size))
    agent = PPO(env, n_steps=32, batch_size=48, n_epochs=2, seed=0).join(workers)
    agent.learn(100, log_dir=folder if workers.rank == 0 else None)


def test_metrics_of_ppo_cover_the_transitions_of_all_workers(tmp_path):
    together(tmp_path, logged_ppo, tmp_path / "run")
    logged_ppo(ALONE, tmp_path / "alone")
    ours, alone = (EventAccumulator(str(tmp_path / name)).Reload() for name in ("run", "alone"))
    for tag in [tag for tag in alone.Tags()["scalars"] if tag.startswith("train/")]:
        assert ours.Scalars(tag)[0].value == pytest.approx(alone.Scalars(tag)[0].value, rel=1e-3, abs=1e-6), tag


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"meta": MetaConfig()}, ["meta"]),
        ({"policy": PolicyConfig(norm="batch")}, ['norm="batch"']),
    ],
)
def test_join_with_unsupported_options_raises(options, sentence):
    agent = A2C(make_env(shard=(0, 2)), **options)
    with pytest.raises(ValueError, match=naming(*sentence)):
        agent.join(Workers(0, 2))


def test_join_with_unsupported_environments_raises():
    with pytest.raises(ValueError, match=naming("worker 1 of 2", "(0, 1)")):
        A2C(make_env()).join(Workers(1, 2))
    ramp = LinearRamp({"length": 1.0}, {"length": 0.1}, over=1_000)
    env = make_vec("CartPole-v1", 2, curriculum=ramp, seed=0, shard=(0, 2))
    with pytest.raises(ValueError, match=naming("curricula", "adversaries")):
        A2C(env).join(Workers(0, 2))
    adversary = {"length": AdversarialBurst(base=0.5, low=0.4, high=0.6, threshold=100.0, duration=10)}
    with pytest.raises(ValueError, match=naming("curricula", "adversaries")):
        A2C(make_vec("CartPole-v1", 2, adversary, seed=0, shard=(0, 2))).join(Workers(0, 2))
    with pytest.raises(ValueError, match=naming("sync", "global", "local", "'here'")):
        A2C(make_env()).join(ALONE, "here")
    agent = A2C(make_env())
    agent.prepare()
    with pytest.raises(ValueError, match=naming("workers")):
        agent.join(ALONE)


class Holes(gym.RewardWrapper):
    """Rewards are nan at given steps of the wrapper."""

    def __init__(self, env, steps):
        super().__init__(env)
        self.steps, self.life = steps, 0

    def reward(self, reward):
        self.life += 1
        return float("nan") if self.life in self.steps else reward


def train_with_holes(workers, sync, on_nonfinite="skip", **options):
    """Train with nan rewards in one worker's second rollout, both third rollouts, and a later step per worker."""
    torch.set_num_threads(1)
    steps = {*range(6, 16), 20} if workers.rank == 1 else {*range(11, 16), 23}
    env = SyncVectorEnv([lambda: Holes(gym.make("CartPole-v1"), steps)] * 1)
    agent = A2C(env, seed=7, on_nonfinite=on_nonfinite, n_steps=5, **options).join(workers, sync)
    agent.learn(10 * 8, log_dir=None)
    return {
        "params": [param.detach().numpy() for param in agent.policy.parameters()],
        "counts": (agent.num_nonfinite, agent.num_updates, agent.num_timesteps),
    }


@pytest.mark.parametrize("sync", ["global", "local"])
@pytest.mark.parametrize("options", [{}, {"fused": False, **NORMALIZED}])
def test_workers_skip_the_same_update(sync, options, tmp_path):
    first, second = together(tmp_path, train_with_holes, sync, **options)
    for own, other in zip(first["params"], second["params"], strict=True):
        assert np.isfinite(own).all()
        np.testing.assert_array_equal(own, other)
    # In the third of about eight rollouts, no worker has a finite reward.
    assert first["counts"] == second["counts"]
    assert first["counts"][0] == 11 + 6


def train_with_a_nan_gradient(workers, algorithm):
    """Train with ``sync="local"`` and a nan gradient in worker 1's third update."""
    torch.set_num_threads(1)
    env = SyncVectorEnv([lambda: gym.make("CartPole-v1")])
    agent = AGENTS[algorithm](env, seed=7, on_nonfinite="skip", optimizer=torch.optim.Adam).join(workers, "local")
    param = next(agent.policy.parameters())
    is_nan = (update == 3 and workers.rank == 1 for update in itertools.count(1))
    param.register_hook(lambda grad: grad * float("nan") if next(is_nan) else grad)
    agent.learn(80)
    return {"param": param.detach().numpy(), "counts": (agent.num_nonfinite, agent.num_updates)}


@pytest.mark.parametrize("algorithm", ["a2c", "ppo"])
def test_worker_that_skips_its_own_torch_step_stays_with_the_others(algorithm, tmp_path):
    first, second = together(tmp_path, train_with_a_nan_gradient, algorithm)
    assert np.isfinite(first["param"]).all()
    np.testing.assert_array_equal(first["param"], second["param"])
    assert first["counts"] == second["counts"]
    assert first["counts"][0] == 1


class Ranked(gym.Wrapper):
    """Adds the worker's rank to info."""

    def __init__(self, env, rank):
        super().__init__(env)
        self.rank = rank

    def step(self, action):
        *transition, info = self.env.step(action)
        return *transition, {**info, "rank": self.rank}


def log_info(workers, folder):
    env = SyncVectorEnv([lambda: Ranked(gym.make("Pendulum-v1"), workers.rank)])
    agent = A2C(env, seed=7, n_steps=5, log_info=["rank"]).join(workers)
    agent.learn(20, log_dir=folder if workers.rank == 0 else None, log_interval=1)


def log_env(workers, folder):
    faulty = ResilientSyncVectorEnv([Faulty, lambda: Faulty(at=3 if workers.rank else None)])
    A2C(faulty, seed=7, n_steps=4, on_env_error="restart").join(workers).learn(
        32, log_dir=folder / "restarts" if workers.rank == 0 else None, log_interval=1
    )
    changes = {"gravity": Sinusoid(mean=10.0, amplitude=4.0, period=500)}
    env = make_env(changes=changes, shard=(workers.rank, workers.size), sharing="phase")
    A2C(env, seed=7, n_steps=4).join(workers).learn(
        32, log_dir=folder / "phases" if workers.rank == 0 else None, log_interval=1
    )
    return faulty.fault_log.num_restarts


@pytest.mark.filterwarnings("ignore:sub-environment 3")
def test_workers_log_the_environments_of_all_workers(tmp_path):
    own = together(tmp_path, log_env, tmp_path)
    restarts, phases = (read_metrics(tmp_path / name / "metrics.csv").rows for name in ("restarts", "phases"))
    assert own[0] == 0 < own[1] == float(restarts[-1]["env/num_restarts"])
    # Four phases of a sinusoid, of which each worker has two.
    assert {round(float(row["env/gravity"] or 10), 6) for row in phases} == {10.0}


def test_workers_log_the_mean_of_all_infos(tmp_path):
    together(tmp_path, log_info, tmp_path / "log")
    rows = read_metrics(tmp_path / "log" / "metrics.csv").rows
    assert {row["info/rank"] for row in rows} - {""} == {"0.5"}


def train_with_a_fault(workers):
    """Train while the second sub-environment of worker 1 fails at its first step and after each restart."""
    env = ResilientSyncVectorEnv([Faulty, lambda: Faulty(at=1 if workers.rank else None)])
    A2C(env, seed=7, n_steps=4, on_env_error="restart").join(workers).learn(1_000)


def name_it(workers, train, *args):
    """The message of the error that ends a training run, and the messages of its warnings."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            train(workers, *args)
        except (FloatingPointError, EnvError, LostWorkersError) as error:
            return str(error), [str(one.message) for one in warned]


def test_nonfinite_value_is_named_by_its_worker(tmp_path):
    (waiting, _), (naming, _) = together(tmp_path, name_it, train_with_holes, "global", "raise", timeout=10.0)
    assert "the reward of sub-environment 1 must be finite" in naming
    assert "lost another worker" in waiting


class Huge(gym.RewardWrapper):
    """The sum of two rewards overflows."""

    def reward(self, reward):
        return 3e38


def train_with_an_overflow(workers):
    env = SyncVectorEnv([lambda: (Huge if workers.rank else gym.Wrapper)(gym.make("CartPole-v1"))])
    A2C(env, seed=7, n_steps=5, normalize_reward=False).join(workers).learn(100)


def test_nonfinite_advantage_is_named_by_its_global_number(tmp_path):
    _, (naming, _) = together(tmp_path, name_it, train_with_an_overflow, timeout=10.0)
    assert "There the advantage of sub-environment 1 in step 0" in naming


def test_failed_environment_is_named_by_its_global_number(tmp_path):
    (waiting, _), (naming, warned) = together(tmp_path, name_it, train_with_a_fault, timeout=10.0)
    assert re.match(r"sub-environment 3 \(seed \d+\) failed in step 1 of its episode", naming)
    again = [one for one in warned if re.match(r"sub-environment 3 \(seed \d+\) failed and is restarted", one)]
    assert len(again) == MAX_RESTARTS_IN_A_ROW
    assert "lost another worker" in waiting


class Deserted(Workers):
    """The first of two workers. The second worker dies before gradients are reduced."""

    def sum(self, values):
        return 2 * values

    def all_gather(self, values):
        return np.stack([values, values])

    def average(self, tensors, share):
        raise LostWorkersError("worker 1 has died")


def test_learn_without_gradients_of_other_workers_keeps_the_agent():
    agent = A2C("CartPole-v1", seed=0).join(Deserted(0, 2))
    with pytest.raises(LostWorkersError, match="has died"):
        agent.learn(100)
    assert not agent.learner.is_half_stepped


def test_join_with_an_unknown_sync_names_the_choices():
    with pytest.raises(ValueError, match=naming("sync", "global", "local", "'mean'")):
        A2C("CartPole-v1", seed=0).join(ALONE, "mean")
