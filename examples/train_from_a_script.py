"""Train A2C while gravity oscillates, and log the run to TensorBoard.

Run: python examples/train_from_a_script.py
"""

from rl_rms.agents import A2C, evaluate
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Sinusoid


def main(total_timesteps: int = 100_000, log_dir: str = "runs/script") -> float:
    """Train, evaluate with the environment parameters of the last env step, and print the mean return."""
    changes = {"gravity": Sinusoid(mean=9.8, amplitude=4.0, period=20_000)}
    env = make_vec("CartPole-v1", num_envs=16, changes=changes, seed=0)
    agent = A2C(env, half_life="20_000 steps", seed=0)
    agent.learn(total_timesteps, progress_bar=True, log_dir=log_dir)
    agent.save(f"{log_dir}/agent")

    test_env = make_vec("CartPole-v1", num_envs=4, changes=changes, seed=0)
    result = evaluate(agent, test_env, episodes=20, seed=1, clock=agent.num_timesteps)
    print(f"mean return {result.mean_reward:.1f}; tensorboard --logdir {log_dir}")
    return result.mean_reward


if __name__ == "__main__":
    main()
