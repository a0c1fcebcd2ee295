"""Rewards, observations and gradients that are nan, infinite or huge, for each value of `on_nonfinite`.

In each short training run, such a value replaces a reward or one coordinate of an observation at a random env
step, or one coordinate of a gradient. The training uses a random autoreset mode and a random entry of `KINDS`,
such as A2C in numpy, REINFORCE in autograd, or A2C with normalizers.

- With "skip", a value that is nan or infinite counts as lost in three cases: the value ends the training; the
  training does not count the value; or a parameter, a statistic of a normalizer or a return becomes nonfinite.
- With "raise", a value that is nan or infinite counts as lost if no `FloatingPointError` says whether the value is
  a reward, observation or gradient. For a reward or an observation, the error must also name the sub-environment.
- Agents do not use some observations, such as the last observation of a terminated episode. Such an observation
  needs no count and no error.
- The huge number 1e30 counts as lost if this number ends the training, or if a parameter, a statistic of a
  normalizer or a return becomes nonfinite.
"""

import math
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from faults.count import Count
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn

from rl_rms import RMSprop
from rl_rms.agents import A2C, PolicyConfig, Reinforce

ENVS, STEPS = 3, 240
VALUES = (math.nan, math.inf, -math.inf, 1e30)
KINDS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (A2C, {}),
    (A2C, {"fused": False}),
    (A2C, {"normalize_observation": True, "normalize_reward": True, "normalize_advantage": True}),
    (A2C, {"policy": PolicyConfig(recurrent="gru", recurrent_size=8, hidden_sizes=(8,))}),
    (A2C, {"max_grad_norm": None}),
    (A2C, {"optimizer": "torch.optim.Adam"}),
    (Reinforce, {}),
    (Reinforce, {"baseline": False, "fused": False}),
)


class Faulty(gym.Env):
    """An environment with random values and one injected value at a given env step."""

    observation_space = gym.spaces.Box(-4.0, np.inf, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.num_steps, self.at, self.what, self.value = 0, -1, "", 0.0
        self.met = False

    def _observe(self) -> np.ndarray:
        observation = self.np_random.standard_normal(4).astype(np.float32)
        if self.num_steps == self.at and self.what == "observation" and not self.met:
            self.met = True
            observation[self.np_random.integers(4)] = self.value
        return observation

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode of 5 to 15 steps."""
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(5, 16))
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Return a random reward. Either a termination or a truncation ends the episode, at random."""
        self.num_steps += 1
        self.left -= 1
        reward = float(self.np_random.standard_normal())
        if self.num_steps == self.at and self.what == "reward":
            self.met = True
            reward = self.value
        ended = bool(self.np_random.integers(2))
        return self._observe(), reward, self.left == 0 and ended, self.left == 0 and not ended, {}


def is_lost(what: str, value: float, on_nonfinite: str, rng: random.Random) -> bool:
    """Train with one fault, and return whether the fault counts as lost."""
    kind, options = rng.choice(KINDS)
    mode, index = rng.choice(list(AutoresetMode)), rng.randrange(ENVS)
    envs = [Faulty() for _ in range(ENVS)]
    envs[index].at, envs[index].what, envs[index].value = rng.randrange(1, 30), what, value
    env = SyncVectorEnv([lambda env=env: env for env in envs], autoreset_mode=mode)
    agent = kind(env, seed=rng.randrange(1000), on_nonfinite=on_nonfinite, **options)
    is_fault = not math.isfinite(value)
    if what == "gradient":
        envs[index].at = -1
        # The fault is in one coordinate of the next update's gradient.
        agent.learn(60)
        make_trainer, left = agent.make_trainer, [1]
        params = list(agent.policy.parameters())

        def make_faulty_trainer() -> Any:
            trainer = make_trainer()
            real = trainer.backend.gradients

            def gradients(*args: Any, **kwargs: Any) -> Any:
                metrics = real(*args, **kwargs)
                if left:
                    left.clear()
                    grad = rng.choice([param.grad for param in params if param.grad is not None])
                    grad.view(-1)[rng.randrange(grad.numel())] = value
                    envs[index].met = True
                return metrics

            trainer.backend.gradients = gradients
            return trainer

        agent.make_trainer = make_faulty_trainer
    try:
        agent.learn(STEPS)
    except FloatingPointError as error:
        named = f"{what} of"
        whose = what == "gradient" or f"sub-environment {index} " in str(error)
        return on_nonfinite != "raise" or not is_fault or named not in str(error) or not whose
    except (ArithmeticError, ValueError, RuntimeError):
        return True
    healthy = all(param.isfinite().all() for param in agent.policy.parameters())
    normalizers = [str(one.state_dict()) for one in agent.learner.scaling.normalizers.values()]
    healthy = healthy and not any("nan" in one or "inf" in one for one in normalizers)
    healthy = healthy and all(math.isfinite(episode.ret) for episode in agent.episodes)
    if not is_fault:
        return not healthy
    # Agents do not use the last observation of a terminated episode, except in next-step mode.
    unseen = what == "observation" and mode is not AutoresetMode.NEXT_STEP and agent.num_nonfinite == 0
    counted = on_nonfinite != "raise" and agent.num_nonfinite == 1
    return not healthy or not (counted or unseen)


def put_in(what: str, on_nonfinite: str, wanted: int, seed: int = 0) -> Count:
    """Inject faults of one kind into ``wanted`` training runs."""
    rng = random.Random(f"{seed} {what} {on_nonfinite}")
    with warnings.catch_warnings():
        # numpy warns when a computation with 1e30 overflows.
        warnings.simplefilter("ignore", RuntimeWarning)
        lost = sum(is_lost(what, VALUES[i % len(VALUES)], on_nonfinite, rng) for i in range(wanted))
    return Count(
        f'a {what} of nan, +-inf or 1e30, on_nonfinite="{on_nonfinite}"'.replace("a obs", "an obs"), wanted, lost
    )


def overflows(wanted: int, seed: int = 0) -> Count:
    """Inject gradients above 1.8e19, whose squares overflow float32, into RMSprop.

    A fault counts as lost if a parameter or second moment is nonfinite at the end, or if the last update does not
    change a parameter.
    """
    rng = random.Random(seed)
    torch.manual_seed(seed)
    lost = 0
    for _ in range(wanted):
        param = nn.Parameter(torch.zeros(8))
        options = rng.choice(
            (
                {},
                {"fused": False},
                {"foreach": True},
                {"centered": True},
                {"momentum": 0.5},
                {"on_nonfinite": "raise"},
            )
        )
        optimizer = RMSprop([param], lr=1e-3, half_life=2, bias_correction=True, **options)
        at, size = rng.randrange(300), 10 ** rng.uniform(19.3, 38.5)
        for step in range(900):
            param.grad = torch.randn(8)
            if step == at:
                param.grad[rng.randrange(8)] = size
            optimizer.step()
        before = param.detach().clone()
        param.grad = torch.randn(8)
        optimizer.step()
        lost += not (param.isfinite().all() and optimizer.state[param]["square_avg"].isfinite().all())
        lost += bool((param == before).any())
    return Count("a gradient of 2e19 to 3e38 in float32, no clipping", wanted, lost)


def counts(folder: Path) -> Iterator[Count]:
    """Inject all faults of this module."""
    for what in ("reward", "observation", "gradient"):
        for on_nonfinite in ("raise", "skip"):
            yield put_in(what, on_nonfinite, 400)
    yield overflows(200)
