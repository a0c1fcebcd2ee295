"""Half-life RMSprop in Stable-Baselines3: train, save, load and go on.

The optimizer is chosen through ``policy_kwargs`` as any other, in A2C, PPO, DQN, SAC and TD3 alike. A2C's own
``rms_prop_eps`` does not reach an optimizer that is chosen so; ``eps`` does.

Run it: ``python examples/sb3_optimizer.py`` takes some seconds.
"""

import tempfile
from pathlib import Path

from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import rl_rms


def main(total_timesteps: int = 8_000) -> None:
    """Train for half of the steps, save, load, and train for the other half."""
    env = make_vec_env("CartPole-v1", n_envs=8, seed=0)
    model = A2C(
        "MlpPolicy",
        env,
        policy_kwargs={
            "optimizer_class": rl_rms.RMSprop,
            # 5 steps of 8 environments make an update of 40 env steps, so this is a memory of 8,000 env steps.
            "optimizer_kwargs": {"half_life": 200, "eps": 1e-5, "bias_correction": True},
        },
        seed=0,
        device="cpu",
    )
    model.learn(total_timesteps // 2)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a2c"
        model.save(path)
        model = A2C.load(path, env=env, device="cpu")
    model.learn(total_timesteps // 2, reset_num_timesteps=False)

    mean_return, _ = evaluate_policy(model, env, n_eval_episodes=20)
    print(f"half-life: {model.policy.optimizer.half_life:.1f} updates")
    for name, value in model.policy.optimizer.diagnostics().items():
        print(f"  {name}: {value:.4g}")
    print(f"mean return over 20 episodes after {model.num_timesteps} steps: {mean_return:.1f}")


if __name__ == "__main__":
    main()
