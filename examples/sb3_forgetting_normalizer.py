"""Compare Stable-Baselines3's ``VecNormalize`` with a normalizer that forgets when observations jump.

An offset is added to all observations of CartPole. Every 10,000 env steps, the offset jumps to another value.
Stable-Baselines3's statistics are averages over all offsets so far. With ``on_jump="forget"``,
`rl_rms.sb3.VecNormalize` detects jumps of the mean observation and restarts the statistics of the observations.

One run proves little. In the ten runs `main(seed=0)` to `main(seed=9)`, the mean episode length was 42 with the
normalizer of Stable-Baselines3 and 63 with the normalizer of rl_rms. In nine of these runs, the length was higher
with the normalizer of rl_rms.

Run: python examples/sb3_forgetting_normalizer.py
"""

from typing import Any

from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env import VecNormalize as TheirVecNormalize

from rl_rms.envs.schedules import Redraw
from rl_rms.sb3 import VecNormalize, make_vec_env


class EpisodeLengths(BaseCallback):
    """Collects the lengths of all episodes."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []

    def _on_step(self) -> bool:
        infos: list[dict[str, Any]] = self.locals["infos"]
        self.lengths += [info["episode"]["l"] for info in infos if "episode" in info]
        return True


def train(env: VecEnv, total_timesteps: int, seed: int) -> float:
    """Train A2C in a normalized environment.

    Returns:
        Mean length of all episodes.
    """
    episodes = EpisodeLengths()
    model = A2C("MlpPolicy", env, learning_rate=2e-3, n_steps=8, gae_lambda=0.95, seed=seed, device="cpu")
    model.learn(total_timesteps, callback=episodes)
    return sum(episodes.lengths) / max(len(episodes.lengths), 1)


def main(total_timesteps: int = 60_000, seed: int = 0) -> tuple[float, float]:
    """Train with both normalizers.

    Returns:
        Mean length of all episodes with Stable-Baselines3's normalizer, and with the normalizer that forgets.
    """
    changes = {"observation.offset": Redraw(low=-1.0, high=1.0, every=10_000)}
    theirs = TheirVecNormalize(make_vec_env("CartPole-v1", 16, changes, seed=seed))
    ours = VecNormalize(make_vec_env("CartPole-v1", 16, changes, seed=seed), on_jump="forget")
    lengths = train(theirs, total_timesteps, seed), train(ours, total_timesteps, seed)
    print(f"mean episode length with Stable-Baselines3's VecNormalize: {lengths[0]:.1f}")
    print(f"mean episode length with rl_rms's VecNormalize and {ours.num_jumps} detected jumps: {lengths[1]:.1f}")
    return lengths


if __name__ == "__main__":
    main()
