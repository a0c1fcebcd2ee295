"""Train on a curriculum of shorter and shorter poles while gravity drifts.

`SuccessGated` begins the next level when the lower confidence bound of the success rate reaches the threshold. It
returns to the previous level when the upper confidence bound is below ``threshold - hysteresis``.

Run: python examples/curriculum.py
"""

from rl_rms.agents import A2C
from rl_rms.envs import make_vec
from rl_rms.envs.curricula import SuccessGated
from rl_rms.envs.schedules import Sinusoid

LEVELS = [{"length": 1.0}, {"length": 0.5}, {"length": 0.25}]


def main(total_timesteps: int = 150_000, success_return: float = 100.0) -> list[tuple[int, int]]:
    """Train on the curriculum and print each change of level.

    Returns:
        The env step and the new level of each change, beginning with (0, 0).
    """
    curriculum = SuccessGated(LEVELS, threshold=0.8, success_return=success_return, min_episodes=20)
    drift = {"gravity": Sinusoid(mean=9.8, amplitude=2.0, period=100_000)}
    env = make_vec("CartPole-v1", num_envs=16, changes=drift, curriculum=curriculum, seed=0)
    agent = A2C(env, half_life="20_000 steps", seed=0)
    path = [(0, 0)]

    def record_level(agent: A2C) -> None:
        if curriculum.stage != path[-1][1]:
            path.append((agent.num_timesteps, curriculum.stage))
            print(f"env step {agent.num_timesteps:8,}: level {curriculum.stage}, {LEVELS[curriculum.stage]}")

    agent.learn(total_timesteps, record_level)
    statistics = ", ".join(f"{name} {value:.3g}" for name, value in curriculum.log().items())
    print(f"at the end: {statistics}; gravity {env.parameters['gravity']:.1f}")
    return path


if __name__ == "__main__":
    main()
