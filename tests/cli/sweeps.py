"""A small sweep, and the Optuna study of a sweep."""

from pathlib import Path

from rl_rms.cli import trials

SWEEP = """
config: cartpole_a2c
vary:
  agent.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
  agent.half_life: {low: 2.0, high: 2000.0, log: true}
fix: {total_timesteps: 1600, env.num_envs: 4}
trials: 4
seeds: [3, 7]
"""


def study_of(search, path="study.db"):
    return trials.open_study(search, str(Path(path).absolute()))
