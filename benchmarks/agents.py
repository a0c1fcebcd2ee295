"""Env steps per second of A2C training in rl_rms and Stable-Baselines3, and of stepping without training.

Run: python benchmarks/agents.py [--cases "CartPole, 1" ...] [--rounds 10] [--output FILE.json]
Or:  python benchmarks/agents.py --native [--rounds 10]
Or:  python benchmarks/agents.py --bookkeeping [--rounds 10]

Both libraries use the same environments, network (two networks of 64 and 64 tanh units, or the Nature CNN),
n_steps = 5, RMSprop and one thread. Each round trains A2C of rl_rms, trains A2C of Stable-Baselines3, and steps
the environments with random actions. These three measurements have the same number of env steps. The speed of
random stepping is an upper bound of the training speed. The table shows the median and the quartiles of the ratios
within rounds, because a slow phase of the machine affects all measurements of a round.

In rows without "native", rl_rms and the random actions use Gymnasium's SyncVectorEnv, without copies of
observations. "native" is Gymnasium's vector implementation of the environment. Stable-Baselines3 cannot use this
implementation, and always uses a DummyVecEnv with the same number of environments.

At the end, a run of a million env steps measures how much the peak RAM of the process grows after the first tenth.

``--native`` compares the native vector environments of rl_rms with Gymnasium's SyncVectorEnv instead. The agent is
A2C with n_steps = 8. MuJoCo steps the native environments in one thread. The rounds alternate between the kinds of
environments, and times are CPU times. The rows of MuJoCo have two more ratios to the SyncVectorEnv:

- "engine limit" is the ratio if native env steps consisted of MuJoCo's functions only. The measurement counts the
  time of these functions and of the agent.
- "two threads" is the ratio of the wall times with two threads. This measurement needs two free cores.

``--bookkeeping`` measures the share of A2C's CPU time that a minimal loop saves. The loop calls the same
environments, backend and optimizer, and computes the same weights. The loop has no checks, episode statistics,
callbacks or counters. After each update of `A2C.learn`, the loop makes the same update with a second agent.
"""

import argparse
import gc
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from gymnasium.vector import SyncVectorEnv, VectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_rms.agents import A2C
from rl_rms.agents.losses import Batch
from rl_rms.agents.rollout import Rollout
from rl_rms.envs import make_vec

N_STEPS = 5
# The vector environments that --native compares, and the smallest desired ratios.
_CONTROL = ("Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1")
_MUJOCO = ("Hopper", "HalfCheetah", "Walker2d", "Ant", "Swimmer", "InvertedPendulum", "InvertedDoublePendulum")
NATIVE = {
    **{(id, num_envs): goal for id in _CONTROL for num_envs, goal in ((16, 2.0), (64, 4.5))},
    **{(f"{name}-v5", 16): 1.8 for name in _MUJOCO},
    ("Hopper-v5", 64): 1.8,
}
# The cases that --bookkeeping measures, and the largest desired shares of bookkeeping.
BOOKKEEPING = {"CartPole, 1": 0.12, "CartPole, 64 native": 0.085}
# The functions of MuJoCo that an env step calls, including a reset within the env step.
_ENGINE = ("mj_step", "mj_rnePostConstraint", "mj_forward", "mj_resetData")


class Pixels(gym.Env[np.ndarray, int]):
    """A dark image with a bright square on one of two sides. The action of the bright side has reward 1."""

    observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode of 100 steps."""
        super().reset(seed=seed)
        self._steps = 0
        return self._draw(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Reward the action and draw the next image."""
        reward = float(action == self._side)
        self._steps += 1
        return self._draw(), reward, False, self._steps == 100, {}

    def _draw(self) -> np.ndarray:
        self._side = int(self.np_random.integers(2))
        picture = np.zeros((4, 84, 84), np.uint8)
        picture[:, 32:52, 10 + 44 * self._side : 30 + 44 * self._side] = 255
        return picture


class Case(NamedTuple):
    """One comparison.

    Attributes:
        make: A function that makes a single environment, or the id of an environment with a native vector
            environment.
        num_envs: Number of environments.
        steps: Env steps of one measurement.
        goal: Smallest desired ratio to Stable-Baselines3.
    """

    make: Callable[[], Any] | str
    num_envs: int
    steps: int
    goal: float | None = None


CASES = {
    "CartPole, 1": Case(lambda: gym.make("CartPole-v1"), 1, 2_000, 1.5),
    "CartPole, 16 sync": Case(lambda: gym.make("CartPole-v1"), 16, 16_000, 4.0),
    "CartPole, 64 native": Case("CartPole-v1", 64, 48_000, 8.0),
    "Pendulum, 1": Case(lambda: gym.make("Pendulum-v1"), 1, 2_000, 2.0),
    "Pendulum, 16 sync": Case(lambda: gym.make("Pendulum-v1"), 16, 16_000, 2.0),
    "Hopper, 1": Case(lambda: gym.make("Hopper-v5"), 1, 2_000, 2.0),
    "Hopper, 16 sync": Case(lambda: gym.make("Hopper-v5"), 16, 8_000, 2.0),
    "Pixels, 8 sync": Case(Pixels, 8, 800, 1.0),
}


def our_env(case: Case) -> VectorEnv:
    """Make the environments for rl_rms."""
    if isinstance(case.make, str):
        return gym.make_vec(case.make, case.num_envs, vectorization_mode="vector_entry_point")
    return SyncVectorEnv([case.make] * case.num_envs, copy=False)


def their_env(case: Case) -> DummyVecEnv:
    """Make the environments for Stable-Baselines3, with its usual Monitor."""
    id_or_make = case.make

    def make() -> gym.Env[Any, Any]:
        env = gym.make(id_or_make) if isinstance(id_or_make, str) else id_or_make()
        return stable_baselines3.common.monitor.Monitor(env)

    return DummyVecEnv([make] * case.num_envs)


def ours(case: Case) -> Callable[[], float]:
    """Return a function that continues training and returns env steps per second."""
    warm_up = case.num_envs * 200 if case.steps > 1_000 else 400
    return training(our_env(case), N_STEPS, case.steps, warm_up, time.perf_counter)


def training(
    env: VectorEnv, n_steps: int, steps: int, warm_up: int, clock: Callable[[], float]
) -> Callable[[], float]:
    """Return a function that continues training rl_rms and returns env steps per second of a clock."""
    agent = make_agent(env, n_steps).learn(warm_up)

    def measure() -> float:
        before, began = agent.num_timesteps, clock()
        agent.learn(steps)
        return (agent.num_timesteps - before) / (clock() - began)

    return measure


def make_agent(env: VectorEnv, n_steps: int) -> A2C:
    """Make an agent without entropy bonus and normalizers, as Stable-Baselines3's A2C is by default."""
    return A2C(env, n_steps=n_steps, ent_coef=0.0, seed=0, normalize_observation=False, normalize_reward=False)


def theirs(case: Case) -> Callable[[], float]:
    """Return a function that continues training Stable-Baselines3 and returns env steps per second."""
    kind = "CnnPolicy" if case.make is Pixels else "MlpPolicy"
    model = stable_baselines3.A2C(kind, their_env(case), n_steps=N_STEPS, seed=0, device="cpu")
    model.learn(case.num_envs * 200 if case.steps > 1_000 else 400)

    def measure() -> float:
        before, began = model.num_timesteps, time.perf_counter()
        model.learn(case.steps, reset_num_timesteps=False)
        return (model.num_timesteps - before) / (time.perf_counter() - began)

    return measure


def raw(case: Case) -> Callable[[], float]:
    """Return a function that steps with random actions, which are drawn in advance."""
    env = our_env(case)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(100)]

    def measure() -> float:
        steps = case.steps // case.num_envs
        began = time.perf_counter()
        for i in range(steps):
            env.step(actions[i % 100])
        return steps * case.num_envs / (time.perf_counter() - began)

    return measure


def compare(case: Case, rounds: int) -> dict[str, list[float]]:
    """Measure the env steps per second of each contender in every round."""
    contenders = {"rl_rms": ours(case), "sb3": theirs(case), "random": raw(case)}
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            measured[name].append(measure())
    return measured


def compare_native(id: str, num_envs: int, updates: int, rounds: int) -> dict[str, list[float]]:
    """Measure the env steps per second with native and Gymnasium's environments in every round."""
    steps = 8 * num_envs * updates

    def train(env: VectorEnv, clock: Callable[[], float] = time.process_time) -> Callable[[], float]:
        return training(env, 8, steps, steps, clock)

    def native(**threads: int) -> VectorEnv:
        return make_vec(id, num_envs, vectorization_mode="native", **threads)

    def sync() -> VectorEnv:
        return SyncVectorEnv([lambda: gym.make(id)] * num_envs, copy=False)

    if id.removesuffix("-v5") in _MUJOCO:
        measures = {
            "native": train(native(num_threads=1)),
            "sync": train(sync()),
            "engine limit": engine_limit(native(num_threads=1), train),
            "native, two threads, wall time": train(native(num_threads=2), time.perf_counter),
            "sync, wall time": train(sync(), time.perf_counter),
        }
    else:
        measures = {"native": train(native()), "sync": train(sync())}
    measured: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            measured[name].append(measure())
    return measured


def engine_limit(env: VectorEnv, train: Callable[..., Callable[[], float]]) -> Callable[[], float]:
    """Return a measurement that counts only the calls of MuJoCo within env steps, and the time of the agent."""
    mujoco = import_module("mujoco")
    subtracted = 0.0

    def timed(function: Callable[..., Any], sign: int) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal subtracted
            began = time.process_time()
            result = function(*args, **kwargs)
            subtracted += sign * (time.process_time() - began)
            return result

        return call

    measure = train(env, lambda: time.process_time() - subtracted)
    calls = {name: timed(getattr(mujoco, name), -1) for name in _ENGINE}

    def measure_limit() -> float:
        with mock.patch.multiple(mujoco, **calls), mock.patch.object(env, "step", timed(env.step, 1)):
            return measure()

    return measure_limit


def native_row(id: str, num_envs: int, measured: dict[str, list[float]]) -> str:
    """Format the medians and the quartiles of the ratios within rounds as a row of a Markdown table."""

    def ratio(name: str, other: str) -> str:
        if name not in measured:
            return ""
        low, middle, high = np.percentile(np.divide(measured[name], measured[other]), [25, 50, 75])
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"

    return (
        f"| {id} | {num_envs} | {np.median(measured['native']):,.0f} | {np.median(measured['sync']):,.0f} | "
        f"{ratio('native', 'sync')} | {NATIVE[id, num_envs]:g} | {ratio('engine limit', 'sync')} | "
        f"{ratio('native, two threads, wall time', 'sync, wall time')} |"
    )


def native_table(results: dict[str, dict[str, list[float]]]) -> str:
    """Format the results of --native as Markdown; the keys are an id and a number of environments."""
    lines = [
        "| environment | sub-environments | native | SyncVectorEnv | ratio (quartiles) | goal | engine limit "
        "| two threads, wall time |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [native_row(*_parts(name), measured) for name, measured in results.items()]
    return "\n".join(lines)


def _parts(name: str) -> tuple[str, int]:
    id, _, num_envs = name.partition(", ")
    return id, int(num_envs)


def measure_native(rounds: int, updates: int, output: Path) -> None:
    """Measure and write the table of --native."""
    results = {}
    for id, num_envs in NATIVE:
        results[f"{id}, {num_envs}"] = compare_native(id, num_envs, updates, rounds)
        print(native_row(id, num_envs, results[f"{id}, {num_envs}"]), flush=True)
    versions = {"python": platform.python_version(), "numpy": np.__version__, "gymnasium": gym.__version__}
    versions["mujoco"] = metadata.version("mujoco")
    output.write_text(json.dumps({"versions": versions, "env_steps_per_second": results}, indent=1) + "\n")
    output.with_suffix(".md").write_text(
        "# Env steps per second of A2C training in native vector environments\n\n"
        f"`python benchmarks/agents.py --native --rounds {rounds} --updates {updates}` measures these medians per "
        "second of CPU time in one thread, with "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + '. The column "engine limit" has the ratio if native env steps consisted of MuJoCo\'s functions only. '
        + "The last column has ratios of wall times with two threads.\n\n"
        + f"{native_table(results)}\n"
    )


def by_hand(agent: A2C) -> Callable[[], None]:
    """Return a function that collects a rollout and makes an update of a new agent, without bookkeeping.

    The agent's environment must have the autoreset mode NEXT_STEP.
    """
    env = agent.env
    backend, random, shape = agent.make_trainer().backend, agent.generator, (N_STEPS, env.num_envs)
    observation, _ = env.reset(seed=agent.seed)
    actions, rewards = np.empty(shape, np.int64), np.empty(shape, np.float32)
    terminated, truncated, valid = np.empty((3, *shape), np.bool_)
    # The backend keeps the inputs of `act`, so it reads only the last row of this array.
    observations = np.empty((N_STEPS + 1, *observation.shape), observation.dtype)
    starts = done = np.zeros(env.num_envs, np.bool_)
    rollout = Rollout(
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        starts=np.empty((N_STEPS + 1, env.num_envs), np.bool_),
        action_masks=None,
        final_index=np.empty((0, 2), np.int64),
        final_observations=observations[:0],
        episodes=[],
    )
    batch = Batch(rollout, valid, agent.learner.coefficients(0))

    def train() -> None:
        nonlocal observation, done
        for t in range(N_STEPS):
            actions[t], _ = backend.act(t, observation, starts, None, None, random)
            valid[t] = ~done
            observation, rewards[t], terminated[t], truncated[t], _ = env.step(actions[t])
            done = terminated[t] | truncated[t]
        observations[N_STEPS] = observation
        backend.gradients(batch, with_metrics=False)
        agent.optimizer.step()

    return train


def compare_bookkeeping(case: Case, rounds: int) -> dict[str, list[float]]:
    """Measure the CPU seconds of an update in every round, for `A2C.learn` and for the minimal loop.

    Raises:
        RuntimeError: If the weights differ after the last round.
    """
    agent, twin = (make_agent(our_env(case), N_STEPS) for _ in range(2))
    train, clock = by_hand(twin), time.process_time
    times: list[float] = []

    def repeat_update(_: A2C) -> None:
        began = clock()
        train()
        times.append(clock() - began)

    measured: dict[str, list[float]] = {"learn": [], "by hand": []}
    for _ in range(rounds + 1):
        times.clear()
        began = clock()
        agent.learn(case.steps, repeat_update)
        both, by_hand_only = clock() - began, sum(times)
        measured["learn"].append((both - by_hand_only) / len(times))
        measured["by hand"].append(by_hand_only / len(times))
    if not all(map(torch.equal, agent.policy.parameters(), twin.policy.parameters())):
        raise RuntimeError("A2C.learn and the loop must compute the same weights, but their weights differ")
    return {name: seconds[1:] for name, seconds in measured.items()}  # the first round warms up


def bookkeeping_table(results: dict[str, dict[str, list[float]]]) -> str:
    """Format the results of --bookkeeping as Markdown."""
    lines = [
        "| environments | microseconds of an update | minimal loop | share of bookkeeping (quartiles) | goal |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, measured in results.items():
        learn, hand = (np.array(measured[key]) for key in ("learn", "by hand"))
        low, middle, high = np.percentile(100 * (1 - hand / learn), [25, 50, 75])
        lines.append(
            f"| {name} | {1e6 * np.median(learn):.0f} | {1e6 * np.median(hand):.0f} | "
            f"{middle:.1f} % ({low:.1f} to {high:.1f}) | {100 * BOOKKEEPING[name]:g} % |"
        )
    return "\n".join(lines)


def measure_bookkeeping(rounds: int, output: Path) -> None:
    """Measure and write the table of --bookkeeping."""
    results = {name: compare_bookkeeping(CASES[name], rounds) for name in BOOKKEEPING}
    versions = {"python": platform.python_version(), "numpy": np.__version__, "gymnasium": gym.__version__}
    output.write_text(json.dumps({"versions": versions, "cpu_seconds_per_update": results}, indent=1) + "\n")
    text = (
        "# Share of bookkeeping in the time of A2C training\n\n"
        f"`python benchmarks/agents.py --bookkeeping --rounds {rounds}` measures these medians of CPU time in one "
        "thread, with "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ". The share of bookkeeping is the share of the time that the minimal loop saves.\n\n"
        + f"{bookkeeping_table(results)}\n"
    )
    output.with_suffix(".md").write_text(text)
    print(text)


def growth(total: int) -> float:
    """Measure the growth of the process's peak RAM in MB, from a tenth of a training run to its end."""
    agent = A2C(gym.make_vec("CartPole-v1", 64), seed=0).learn(total // 10)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    agent.learn(total - total // 10)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Format the results as Markdown."""
    lines = [
        "| environments | rl_rms | Stable-Baselines3 | ratio (quartiles) | goal | stepping only "
        "| rl_rms / stepping only |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, measured in results.items():
        mine, other, alone = (np.array(measured[key]) for key in ("rl_rms", "sb3", "random"))
        low, middle, high = np.percentile(mine / other, [25, 50, 75])
        goal = CASES[name].goal
        lines.append(
            f"| {name} | {statistics.median(mine):,.0f} | {statistics.median(other):,.0f} | "
            f"{middle:.2f} ({low:.2f} to {high:.2f}) | {'' if goal is None else f'{goal:g}'} | "
            f"{statistics.median(alone):,.0f} | {100 * float(np.median(mine / alone)):.0f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--memory-steps", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/agents.json"))
    parser.add_argument("--native", action="store_true", help="compare native environments with SyncVectorEnv")
    parser.add_argument("--bookkeeping", action="store_true", help="measure the share of bookkeeping")
    parser.add_argument("--updates", type=int, default=10, help="with --native, updates of each measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.native:
        measure_native(arguments.rounds, arguments.updates, arguments.output.with_name("native.json"))
        return
    if arguments.bookkeeping:
        measure_bookkeeping(arguments.rounds, arguments.output.with_name("bookkeeping.json"))
        return
    results = {}
    for name in arguments.cases:
        results[name] = compare(CASES[name], arguments.rounds)
        print(table({name: results[name]}).splitlines()[-1], flush=True)
    grown = growth(arguments.memory_steps)
    span = f"from {arguments.memory_steps // 10:,} to {arguments.memory_steps:,} env steps"
    sentence = f"With 64 native CartPoles, the peak RAM of the process grows by {grown:.1f} MB {span}."
    versions = {"python": platform.python_version(), "torch": torch.__version__, "gymnasium": gym.__version__}
    versions["stable-baselines3"] = stable_baselines3.__version__
    contents = {"versions": versions, "env_steps_per_second": results, "memory_growth_mb": grown}
    arguments.output.write_text(json.dumps(contents, indent=1) + "\n")
    text = (
        "# Env steps per second of A2C training\n\n"
        f"`python benchmarks/agents.py --rounds {arguments.rounds}` measures these medians in one thread, with "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ". The ratio divides the speed of rl_rms by the speed of Stable-Baselines3 in the same round. "
        + 'The column "stepping only" has the speed of random actions without training.\n\n'
        + f"{table(results)}\n\n{sentence}\n"
    )
    arguments.output.with_suffix(".md").write_text(text)
    print(f"\n{text}")


if __name__ == "__main__":
    main()
