"""A curriculum with gates that luck does not open: poles get shorter as they are mastered.

`SuccessGated` passes a level when even the lower bound of its success rate reaches the threshold, and goes back
when even the upper bound stays below. Meanwhile gravity drifts on the world's own clock.

Run: python examples/curriculum.py
"""

from rl_rms.agents import A2C
from rl_rms.envs import make_vec
from rl_rms.envs.curricula import SuccessGated
from rl_rms.envs.schedules import Sinusoid

LEVELS = [{"length": 1.0}, {"length": 0.5}, {"length": 0.25}]


def main(total_timesteps: int = 150_000, success_return: float = 100.0) -> list[tuple[int, int]]:
    """Train through the curriculum, and print each level's beginning.

    Returns:
        Env steps and level at each change of level, the first of them (0, 0).
    """
    curriculum = SuccessGated(LEVELS, threshold=0.8, success_return=success_return, min_episodes=20)
    drift = {"gravity": Sinusoid(mean=9.8, amplitude=2.0, period=100_000)}
    env = make_vec("CartPole-v1", num_envs=16, changes=drift, curriculum=curriculum, seed=0)
    agent = A2C(env, learning_rate=2e-3, n_steps=8, gae_lambda=0.95, half_life="20_000 steps", seed=0)
    path = [(0, 0)]

    def tell(agent: A2C) -> None:
        if curriculum.stage != path[-1][1]:
            path.append((agent.num_timesteps, curriculum.stage))
            print(f"env step {agent.num_timesteps:8,}: level {curriculum.stage}, {LEVELS[curriculum.stage]}")

    agent.learn(total_timesteps, tell)
    said = ", ".join(f"{name} {value:.3g}" for name, value in curriculum.log().items())
    print(f"at the end: {said}; gravity {env.parameters['gravity']:.1f}")
    return path


if __name__ == "__main__":
    main()
