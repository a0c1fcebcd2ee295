import json
import multiprocessing
import threading
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_rms.agents import A2C, EvalCallback, Reinforce, checkpoint, evaluate
from rl_rms.agents.collector import Collector
from rl_rms.agents.losses import Batch, LossCoefficients, targets
from rl_rms.agents.reinforce import whole_episodes
from rl_rms.envs import ResilientAsyncVectorEnv, ResilientSyncVectorEnv, make_vec
from rl_rms.envs.curricula import DomainRandomization
from rl_rms.envs.faults import EnvError
from rl_rms.envs.schedules import Sinusoid
from tests.faulty import Faulty
from tests.naming import naming

MODES = ["NextStep", "SameStep", "Disabled"]


@pytest.fixture(autouse=True)
def quiet():
    """Ignores warnings about restarts, because the tests in tests/envs check these warnings."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*failed and is restarted")
        yield


def vector(*kinds, mode="NextStep"):
    return ResilientSyncVectorEnv([lambda kind=kind: Faulty(**kind) for kind in kinds], autoreset_mode=mode)


def collect(num_steps, *kinds, mode="NextStep"):
    """A collector that restarts failed environments, and its rollout."""
    collector = Collector(vector(*kinds, mode=mode), on_env_error="restart")
    collector.start(0)
    actions = np.zeros(len(kinds), np.int64)
    return collector, collector.collect(lambda *_: (actions, actions), lambda t, episodes: t == num_steps)


@pytest.mark.parametrize("mode", MODES)
def test_restart_ends_the_episode_before_the_failed_step(mode):
    collector, rollout = collect(5, {"at": 3}, {}, mode=mode)
    reset_frame = mode == "NextStep"
    assert rollout.valid[:, 0].tolist() == [True, True, False, not reset_frame, True]
    assert rollout.truncated[:, 0].tolist() == [False, True, True, False, False]
    assert not rollout.terminated[:, 0].any()
    assert rollout.starts[:, 0].tolist() == [True, False, False, not reset_frame, reset_frame, False]
    counted = [0, 1, 2, 0, 0, 1] if reset_frame else [0, 1, 2, 0, 1, 2]
    assert rollout.observations[:, 0, 0].tolist() == counted
    assert rollout.terminated[:, 1].tolist() == [False, False, False, True, False]
    assert [(one.env_index, one.ret, one.length) for one in rollout.episodes] == [(1, 4.0, 4)]
    assert len(rollout.final_index) == 0
    assert collector.num_timesteps == rollout.env_steps == np.count_nonzero(rollout.valid)
    assert collector.num_restarts == 1


@pytest.mark.parametrize("mode", MODES)
def test_restart_bootstraps_from_the_last_valid_observation(mode):
    rollout = collect(5, {"at": 3}, mode=mode)[1]
    values = np.array([[1.0], [2.0], [30.0], [400.0], [500.0], [600.0]], np.float32)
    coefficients = LossCoefficients(
        gamma=0.5, gae_lambda=1.0, ent_coef=0.0, vf_coef=0.5, normalize_advantage=False
    )
    advantages = targets(Batch(rollout, rollout.valid, coefficients), values, np.zeros(0, np.float32))[0]
    # The advantage at step 1 is A_1 = r_1 + gamma V(o_2) - V(o_1). At step 0, the term gamma A_1 is added.
    assert advantages[1, 0] == 1.0 + 0.5 * 30.0 - 2.0
    assert advantages[0, 0] == 1.0 + 0.5 * 2.0 - 1.0 + 0.5 * advantages[1, 0]


def test_restart_at_the_first_step_keeps_the_previous_episode():
    rollout = collect(7, {"at": 5})[1]
    assert rollout.terminated[:, 0].tolist() == [False] * 3 + [True] + [False] * 3
    assert rollout.valid[:, 0].tolist() == [True] * 4 + [False] * 3
    assert rollout.truncated[:, 0].tolist() == [False] * 5 + [True, False]
    assert whole_episodes(rollout, 1)[:, 0].tolist() == [True] * 4 + [False] * 3
    rollout = collect(12, {"at": 5})[1]
    assert whole_episodes(rollout, 2)[:, 0].tolist() == [True] * 4 + [False] * 3 + [True] * 4 + [False]


def test_reinforce_with_restarts_collects_whole_episodes():
    agent = Reinforce(vector({"at": 7}, {}), seed=0, on_env_error="restart").learn(100)
    assert {one.ret for one in agent.episodes} == {4.0}
    assert all(bool(torch.isfinite(one).all()) for one in agent.policy.parameters())
    rollout = collect(12, {"at": 3})[1]
    assert whole_episodes(rollout, 1)[:, 0].tolist() == [True, True] + [False] * 10


def check_resume(make_agent, make_env, path):
    def saving(agent):
        if agent.num_updates == 8:
            agent.save(path)
        return agent.num_updates < 20

    whole = make_agent(make_env()).learn(10**6, callback=saving)
    loaded = type(whole).load(path, env=make_env())
    loaded.prepare()
    assert loaded.session.collector.num_restarts > 0
    loaded.learn(10**6, callback=lambda agent: agent.num_updates < 20)
    assert list(loaded.episodes) == list(whole.episodes)
    assert loaded.session.collector.num_restarts == whole.session.collector.num_restarts
    for one, other in zip(loaded.policy.parameters(), whole.policy.parameters(), strict=True):
        assert torch.equal(one, other)
    for agent in (whole, loaded):
        agent.env.close()


class Stumbling(Faulty):
    """Fails at random. The random generator is part of the state, so a resumed run repeats the failures."""

    def step(self, action):
        observation, *others = super().step(action)
        if observation[1] > 0.9:
            raise RuntimeError("stumbled")
        return (observation, *others)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_resumed_run_with_restarts_is_bit_identical(tmp_path, mode):
    gym.register("Stumbling-v0", entry_point=Stumbling)

    def make_env():
        changes = {"reward.scale": Sinusoid(mean=2.0, amplitude=1.0, period=50)}
        return make_vec(
            "Stumbling-v0",
            3,
            changes,
            curriculum=DomainRandomization({"level": (1.0, 2.0)}),
            vectorization_mode=mode,
            seed=0,
        )

    try:
        check_resume(lambda env: A2C(env, seed=0, on_env_error="restart"), make_env, tmp_path / "agent")
    finally:
        del gym.registry["Stumbling-v0"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_load_of_a_checkpoint_after_a_fault_begins_new_episodes_at_the_same_clock(tmp_path, mode):
    changes = {"reward.scale": Sinusoid(mean=2.0, amplitude=1.0, period=50)}
    env = make_vec("Faulty-v0", 2, changes, vectorization_mode=mode, seed=0, at=35)
    agent = A2C(env, seed=0)
    with pytest.raises(EnvError, match=naming("3", "68 env steps")):
        agent.learn(1000)
    saved = agent.save(tmp_path / "agent")
    place = json.loads(checkpoint.read(saved, "a2c")["place"].numpy().tobytes())
    assert place["env_state"]["environment"] is None
    new_env = make_vec("Faulty-v0", 2, changes, vectorization_mode=mode, seed=0)
    loaded = A2C.load(saved, env=new_env)
    loaded.prepare()
    assert new_env.clock == env.clock > agent.num_timesteps == loaded.num_timesteps
    loaded.learn(50)
    assert {one.length for one in loaded.episodes} == {4}
    new_env.close()
    if mode == "sync":
        with pytest.raises(EnvError, match=naming("sub-environment 1", "step 1")):
            agent.learn(20)
        agent.learn(20)
        env.close()


def test_eval_callback_failed_environment_raises_env_error():
    changes = {"reward.scale": Sinusoid(mean=2.0, amplitude=1.0, period=50)}
    env = make_vec("Faulty-v0", 2, changes, vectorization_mode="async", seed=0, how="exit", at=30)
    agent = A2C(env, seed=0)
    with pytest.raises(EnvError, match=naming("exit status 3")):
        agent.learn(1000, EvalCallback(every=40, episodes=50, clocks=[500]))
    assert env.clock < 100
    assert not any(process.is_alive() for process in env.unwrapped.processes)


def test_evaluate_with_restart_replaces_the_failed_episode():
    agent = A2C(vector({}), seed=0)
    with pytest.raises(EnvError, match=naming("sub-environment 0")):
        evaluate(agent, vector({"at": 7}), episodes=5)
    env = vector({"at": 7})
    Collector(env, on_env_error="restart")
    assert evaluate(agent, env, episodes=3).returns.tolist() == [4.0, 4.0, 4.0]


def test_learn_with_restarts_logs_their_number(tmp_path):
    A2C(vector({"at": 7}, {}), seed=0, on_env_error="restart").learn(200, log_dir=tmp_path, log_interval=1)
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("env/num_restarts")
    restarts = [float(row.split(",")[column]) for row in rows]
    assert restarts == sorted(restarts)
    assert restarts[-1] > 3
    A2C(vector({}, {}), seed=0).learn(20, log_dir=tmp_path / "other", log_interval=1)
    assert "num_restarts" not in (tmp_path / "other" / "metrics.csv").read_text()


def test_constructor_with_a_wrong_fault_option_names_it():
    with pytest.raises(ValueError, match=naming("on_env_error", "raise", "restart", "'ignore'")):
        A2C("CartPole-v1", on_env_error="ignore")
    with pytest.raises(ValueError, match=naming("env_timeout", "0")):
        A2C("CartPole-v1", env_timeout=0)
    with pytest.raises(ValueError, match=naming("on_env_error", "CartPole-v1", "id")):
        A2C(gym.make("CartPole-v1"), on_env_error="restart")
    agent = A2C(ResilientAsyncVectorEnv([Faulty]), env_timeout=3.0)
    agent.prepare()
    assert agent.env.env_timeout == 3.0
    agent.env.close()


class Unclosable(Faulty):
    """An environment whose worker never ends."""

    def close(self):
        if multiprocessing.parent_process() is not None:
            threading.Event().wait()


@pytest.mark.parametrize("is_prepared", [True, False])
def test_close_of_a_worker_that_hangs_ends_within_env_timeout(is_prepared):
    env = ResilientAsyncVectorEnv([Unclosable])
    agent = A2C(env, seed=0, env_timeout=0.5)
    if is_prepared:
        agent.prepare()
    closing = threading.Thread(target=env.close, daemon=True)
    closing.start()
    closing.join(60.0)
    ended = not closing.is_alive()
    for process in env.processes:
        process.kill()
    assert ended


def test_a2c_restart_with_a_native_environment_id_uses_sync():
    agent = A2C("CartPole-v1", seed=0, on_env_error="restart")
    assert isinstance(agent.env, ResilientSyncVectorEnv)
    assert not isinstance(A2C("CartPole-v1", seed=0).env, ResilientSyncVectorEnv)


def test_failed_step_in_a_rollout_of_its_own_ends_the_discounted_return():
    made = []

    def make():
        made.append(Faulty("raise", at=2 if not made else None))
        return made[-1]

    agent = A2C(ResilientSyncVectorEnv([make]), n_steps=1, normalize_reward=True, on_env_error="restart", seed=0)
    returns = []
    agent.learn(4, lambda trained: returns.append(trained.reward_normalizer.returns.item()))
    assert len(made) == 2
    # Step 1, the failed step, the reset frame, and three more steps.
    assert returns == pytest.approx([1.0, 0.0, 0.0, 1.0, 1.99, 1 + 0.99 * 1.99][: len(returns)])
    assert len(returns) > 3
