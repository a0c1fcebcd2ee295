"""Use RMSprop with a half-life in Stable-Baselines3: train, save, load and continue.

``policy_kwargs`` selects the optimizer in A2C, PPO, DQN, SAC and TD3. A2C does not pass ``rms_prop_eps`` to an
optimizer that is selected in this way; set ``eps`` in ``optimizer_kwargs`` instead.

Run: python examples/sb3_optimizer.py (some seconds)
"""

import tempfile
from pathlib import Path

from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import rl_rms


def main(total_timesteps: int = 8_000) -> None:
    """Train for half of the env steps, save, load, and train for the other half."""
    env = make_vec_env("CartPole-v1", n_envs=8, seed=0)
    model = A2C(
        "MlpPolicy",
        env,
        policy_kwargs={
            "optimizer_class": rl_rms.RMSprop,
            # An update spans 5 steps of 8 environments = 40 env steps, so 200 updates are 8,000 env steps.
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
