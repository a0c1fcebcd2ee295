import multiprocessing
import os
import signal
import threading
from functools import partial

import gymnasium as gym
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_rms.agents import A2C, PPO, CheckpointCallback, EvalCallback, PolicyConfig, Reinforce, collector, evaluate
from rl_rms.agents.interruption import signals_deferred
from rl_rms.envs import EnvError, make_vec
from rl_rms.envs.schedules import Redraw
from tests.naming import naming

CHANGES = {"length": Redraw(low=0.2, high=1.0, every=50)}


def make_env(mode="sync", context=None, wrappers=()):
    # Same-step autoreset has no reset frames, so each vector step counts one env step per sub-environment, and a
    # rollout has exactly 20 env steps.
    options = {"autoreset_mode": "SameStep", **({} if context is None else {"context": context})}
    return make_vec(
        "CartPole-v1", 2, CHANGES, seed=0, vectorization_mode=mode, vector_kwargs=options, wrappers=wrappers
    )


def agent(env, **options):
    return A2C(env, n_steps=10, policy=PolicyConfig(hidden_sizes=(8,)), seed=0, **options)


class Signalling(gym.Wrapper):
    """Sends signals to its process at a given env step."""

    at, times, number, steps = 35, 1, signal.SIGINT, 0

    def step(self, action):
        type(self).steps += 1
        if self.steps == self.at:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)
        return super().step(action)


@pytest.fixture(autouse=True)
def usual():
    """Sets Python's default handler of SIGINT, because shells start background processes with SIGINT ignored."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.fixture
def signalling():
    """Makes a class of wrappers that send signals."""
    return lambda **attributes: type("Signalling", (Signalling,), attributes)


@pytest.mark.parametrize(
    "options", [{}, {"policy": PolicyConfig(hidden_sizes=(8,), recurrent="gru")}, {"fused": False}]
)
def test_first_ctrl_c_stops_after_the_update_and_resume_is_bit_identical(tmp_path, signalling, options):
    options = {"policy": PolicyConfig(hidden_sizes=(8,)), **options}
    interrupted = A2C(make_env(wrappers=(signalling(),)), n_steps=10, seed=0, **options)
    with pytest.raises(KeyboardInterrupt):
        interrupted.learn(200, CheckpointCallback(tmp_path / "checkpoints", 10_000))
    # The signal came within the second rollout of 20 env steps.
    assert (interrupted.num_timesteps, interrupted.num_updates) == (40, 2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    silent = (signalling(at=-1),)
    resumed = A2C.load(tmp_path / "checkpoints" / "final", make_env(wrappers=silent)).learn(160)
    whole = A2C(make_env(wrappers=silent), n_steps=10, seed=0, **options).learn(200)
    assert resumed.save(tmp_path / "resumed").read_bytes() == whole.save(tmp_path / "whole").read_bytes()
    interrupted.learn(160)
    assert interrupted.save(tmp_path / "interrupted").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_second_ctrl_c_stops_within_the_rollout_and_new_episodes_begin(tmp_path, signalling):
    interrupted = agent(make_env(wrappers=(signalling(times=2),)))
    with pytest.raises(KeyboardInterrupt):
        interrupted.learn(200, CheckpointCallback(tmp_path, 10_000))
    assert (interrupted.num_timesteps, interrupted.num_updates) == (20, 1)
    assert interrupted.learn(40).num_timesteps == 60
    resumed = A2C.load(tmp_path / "final", make_env())
    resumed.prepare()
    assert not resumed.session.collector.state_dict()["lengths"].any()
    assert resumed.learn(40).num_timesteps == 60


@pytest.mark.parametrize("algorithm", [A2C, PPO])
def test_ctrl_c_within_a_gradient_leaves_the_policy_in_evaluation_mode(algorithm):
    trained = algorithm("CartPole-v1", n_steps=10, policy=PolicyConfig(norm="batch"), seed=0)

    def interrupt(*_):
        if trained.policy.training:
            raise KeyboardInterrupt

    trained.policy.critic_network.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        trained.learn(10)
    assert not trained.policy.training


def test_ctrl_c_after_the_last_update_raises_keyboard_interrupt():
    def at_the_end(trained):
        if trained.num_timesteps == 40:
            os.kill(os.getpid(), signal.SIGINT)

    trained = agent(make_env())
    with pytest.raises(KeyboardInterrupt):
        trained.learn(40, at_the_end)
    assert trained.learn(20).num_timesteps == 60


def test_learn_keeps_a_signal_handler_of_the_user(signalling):
    came = []
    earlier = signal.signal(signal.SIGTERM, lambda *_: (came.append("SIGTERM"), trained.interrupt()))
    earlier_int = signal.signal(signal.SIGINT, lambda *_: came.append("SIGINT"))
    try:
        trained = agent(make_env(wrappers=(signalling(), signalling(at=45, number=signal.SIGTERM))))
        with pytest.raises(KeyboardInterrupt):
            trained.learn(200)
    finally:
        signal.signal(signal.SIGTERM, earlier)
        signal.signal(signal.SIGINT, earlier_int)
    assert came == ["SIGINT", "SIGTERM"]
    assert trained.num_timesteps == 60


def test_interrupt_stops_a_training_in_a_thread():
    ended = []

    def train():
        try:
            trained.learn(10**9, callback=lambda _: updated.set())
        except KeyboardInterrupt:
            ended.append(trained.num_timesteps % 20)

    trained, updated = agent(make_env()), threading.Event()
    thread = threading.Thread(target=train)
    thread.start()
    updated.wait()
    trained.interrupt()
    thread.join(60)
    assert ended == [0]


class BrokenOff(torch.optim.SGD):
    """An optimizer whose second step raises KeyboardInterrupt."""

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 2:
            raise KeyboardInterrupt
        return super().step(closure)


def test_save_after_an_interrupted_optimizer_step_raises(tmp_path):
    trained = agent(make_env(), optimizer=BrokenOff)
    with pytest.raises(KeyboardInterrupt):
        trained.learn(200, CheckpointCallback(tmp_path, 20))
    assert [file.name for file in tmp_path.iterdir()] == ["step_0000000020.safetensors"]
    with pytest.raises(RuntimeError, match=naming("optimizer", "last checkpoint")):
        trained.save(tmp_path / "half")


class Failing(gym.Wrapper):
    """A wrapper that raises an error at its 25th step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 25:
            raise ArithmeticError("a bug in the environment")
        return super().step(action)


@pytest.mark.parametrize("changes", [{}, CHANGES])
def test_error_within_a_rollout_keeps_the_weights(tmp_path, changes):
    envs = [lambda: Failing(gym.make("CartPole-v1")), lambda: gym.make("CartPole-v1")]
    env = make_env(wrappers=(Failing,)) if changes else SyncVectorEnv(envs, autoreset_mode=AutoresetMode.SAME_STEP)
    trained = agent(env)
    with pytest.raises(EnvError, match="a bug"):
        trained.learn(200, CheckpointCallback(tmp_path, 10_000))
    saved = A2C.load(tmp_path / "final")
    assert (saved.num_timesteps, saved.num_updates) == (40, 2)
    assert all(map(torch.equal, saved.policy.parameters(), trained.policy.parameters()))


def _train(folder, name):
    agent(make_env()).learn(100, log_dir=folder / name).save(folder / name / "agent")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_learn_in_a_child_process_equals_the_parent(tmp_path, method):
    _train(tmp_path, "parent")
    torch.ones(400, 400) @ torch.ones(400, 400)
    context = multiprocessing.get_context(method)

    def in_a_child(trained):
        if trained.num_updates == 2:
            child = context.Process(target=_train, args=(tmp_path, "child"))
            child.start()
            child.join(120)
            assert child.exitcode == 0

    agent(make_env()).learn(60, in_a_child, log_dir=tmp_path / "around")
    names = [tmp_path / name / "agent.safetensors" for name in ("parent", "child")]
    assert names[0].read_bytes() == names[1].read_bytes()


def _until_interrupted(folder, context, pipe):
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    env = make_env("async", context)
    trained = agent(env)
    try:
        trained.learn(10**9, lambda one: one.num_updates != 3 or pipe.send("learning"))
    except KeyboardInterrupt:
        trained.save(folder / "interrupted")
        env.close()
        pipe.send(trained.num_timesteps)


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_ctrl_c_in_a_terminal_does_not_end_the_workers(tmp_path, context):
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_until_interrupted, args=(tmp_path, context, sender), daemon=False
    )
    process.start()
    assert receiver.poll(120)
    assert receiver.recv() == "learning"
    os.killpg(process.pid, signal.SIGINT)
    assert receiver.poll(120)
    env_steps = receiver.recv()
    process.join(60)
    assert process.exitcode == 0
    whole = agent(make_env("async")).learn(env_steps)
    assert whole.num_timesteps == env_steps
    assert whole.save(tmp_path / "whole").read_bytes() == (tmp_path / "interrupted.safetensors").read_bytes()
    whole.env.close()


class Endless(gym.Env):
    """An episode that never ends, with Ctrl-C at step 1,500."""

    observation_space = gym.spaces.Box(0, 1, (1,), "float32")
    action_space = gym.spaces.Discrete(2)
    steps, at = 0, 1_500

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.low, {}

    def step(self, action):
        self.steps += 1
        if self.steps == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        assert self.steps < 20_000
        return self.observation_space.low, 1.0, False, False, {}


def test_reinforce_endless_episode_stops_at_the_first_ctrl_c(tmp_path):
    env = Endless()
    trained = Reinforce(env, seed=0)
    with pytest.raises(KeyboardInterrupt):
        trained.learn(10**6, CheckpointCallback(tmp_path, 10**6))
    assert env.steps == 2_000
    assert Reinforce.load(tmp_path / "final").num_updates == 0


def test_evaluate_endless_episode_stops_at_the_first_ctrl_c():
    env = Endless()
    trained = A2C(Endless(), n_steps=5, seed=0)
    with pytest.raises(KeyboardInterrupt):
        trained.learn(100, EvalCallback(SyncVectorEnv([lambda: env]), every=5, episodes=1))
    assert env.steps == 2_000
    assert trained.learn(5).num_timesteps == 10


@pytest.mark.parametrize("play", ["learn", "evaluate"])
def test_long_episode_warns_once_of_time_limit(monkeypatch, play):
    class Long(Endless):
        at = -1

        def step(self, action):
            observation, reward, _, _, info = super().step(action)
            return observation, reward, False, self.steps == 25, info

    monkeypatch.setattr(collector, "LONG_EPISODE", 10)
    agent = Reinforce(Long(), seed=0)
    run = partial(agent.learn, 25) if play == "learn" else partial(evaluate, agent, Long(), 1)
    with pytest.warns(UserWarning, match=naming("10 env steps", "TimeLimit")) as caught:
        run()
    assert len(caught) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_deferred_delivers_the_first_signal_after_the_block(number):
    received = []
    earlier = signal.signal(number, lambda got, _: received.append(got))
    try:
        with signals_deferred():
            signal.raise_signal(number)
            signal.raise_signal(number)
            assert received == []
        assert received == [number]
    finally:
        signal.signal(number, earlier)
