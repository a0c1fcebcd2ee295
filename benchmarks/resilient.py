"""Time of a vector step of ResilientSyncVectorEnv relative to Gymnasium's SyncVectorEnv.

Run: OMP_NUM_THREADS=1 python benchmarks/resilient.py

In each round, both vector environments make the same number of steps. The ratio is the time of
ResilientSyncVectorEnv divided by the time of SyncVectorEnv. The table shows the median of this ratio over rounds.
"""

import statistics
import time
from collections.abc import Callable

import gymnasium as gym
from gymnasium.vector import SyncVectorEnv, VectorEnv

from rl_rms.envs import ResilientSyncVectorEnv

ROUNDS, STEPS = 101, 200
CASES = [("CartPole-v1", 1), ("CartPole-v1", 4), ("CartPole-v1", 16), ("Pendulum-v1", 4), ("LunarLander-v3", 4)]


def seconds(env: VectorEnv) -> float:
    """Measure the time of `STEPS` vector steps in seconds."""
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(STEPS)]
    begin = time.perf_counter()
    for action in actions:
        env.step(action)
    return time.perf_counter() - begin


def ratio(make: Callable[[], gym.Env], num_envs: int, rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the median microseconds of Gymnasium's vector step, and the median ratio of the times."""
    plain, resilient = SyncVectorEnv([make] * num_envs), ResilientSyncVectorEnv([make] * num_envs)
    pairs = []
    for number in range(rounds):
        order = (plain, resilient) if number % 2 else (resilient, plain)
        times = {id(env): seconds(env) for env in order}
        pairs.append((times[id(plain)], times[id(resilient)]))
    plain_time = statistics.median(one for one, _ in pairs)
    return plain_time / STEPS * 1e6, statistics.median(other / one for one, other in pairs)


def main() -> None:
    """Print the table."""
    print("| environment | sub-environments | Gymnasium, us | ratio |")
    print("|---|---:|---:|---:|")
    for id, num_envs in CASES:
        time_us, found = ratio(lambda id=id: gym.make(id), num_envs)
        print(f"| {id} | {num_envs} | {time_us:.1f} | {found:.2f} |", flush=True)


if __name__ == "__main__":
    main()
