"""Set one half-life in env steps for models of Stable-Baselines3 with different numbers of environments.

The half-life of ``rho = 0.99`` is a different number of env steps in each of these runs.
`rl_rms.sb3.HalfLifeCallback` gives all runs the same half-life in env steps.

Run: python examples/sb3_half_life.py
"""

from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env

import rl_rms
from rl_rms.sb3 import HalfLifeCallback, env_steps_per_update

POLICY_KWARGS = {"optimizer_class": rl_rms.RMSprop, "optimizer_kwargs": {"eps": 1e-5, "bias_correction": True}}


def build(algorithm: type[A2C] | type[PPO], num_envs: int) -> BaseAlgorithm:
    """Build a model on CartPole with `rl_rms.RMSprop`."""
    env = make_vec_env("CartPole-v1", n_envs=num_envs, seed=0)
    return algorithm("MlpPolicy", env, policy_kwargs=dict(POLICY_KWARGS), seed=0, device="cpu")


def main(total_timesteps: int = 8_000, half_life: str = "8_000 steps") -> list[tuple[str, float, float]]:
    """Train each model for ``total_timesteps`` env steps.

    Returns:
        For each run, its name, the half-life of rho = 0.99 and the half-life of the optimizer, both in env steps.
    """
    rows = []
    for algorithm, num_envs in ((A2C, 1), (A2C, 16), (PPO, 4)):
        model = build(algorithm, num_envs)
        usual = rl_rms.half_life_from_rho(0.99) * env_steps_per_update(model)
        model.learn(total_timesteps, callback=HalfLifeCallback(half_life))
        optimizer = model.policy.optimizer
        name = f"{algorithm.__name__}, {num_envs} environments"
        rows.append((name, usual, optimizer.half_life * optimizer.steps_per_update))
        print(
            f"{name:<22} half-life of rho = 0.99: {usual:6,.0f} env steps; half-life of this run: "
            f"{rows[-1][2]:,.0f} env steps, which are {optimizer.half_life:,.1f} updates"
        )
    return rows


if __name__ == "__main__":
    main()
