"""The tasks of half_life.py and lifelong.py: environments that change, and the score of an episode.

A training run has five regimes of equal length. In tasks with jumps, a parameter jumps at the end of each regime.
All tuned agents use the entropy coefficient and the discount of the task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rl_rms.agents.rollout import Episode
from rl_rms.envs.curricula import LinearRamp
from rl_rms.envs.schedules import Redraw, Schedule, Sinusoid, Square

REGIMES = 5


def length(episode: Episode) -> float:
    """Length of the episode."""
    return episode.length


def steps_saved(episode: Episode) -> float:
    """500 minus the length of an episode of Acrobot."""
    return 500.0 - episode.length


def goals(episode: Episode) -> float:
    """100 for an episode that reached the goal, otherwise 0; the mean over episodes is the success rate in %."""
    return 100.0 * (episode.ret > 0)


def return_above_2_000(episode: Episode) -> float:
    """Return of an episode of Pendulum plus 2,000."""
    return 2_000.0 + episode.ret


@dataclass(frozen=True)
class Task:
    """An environment, and how it changes.

    Attributes:
        id: Gymnasium's id of the environment.
        regime: Length of a regime in env steps.
        changes: Schedules or constant values, by target, such as a parameter of the environment or
            ``reward.scale``. Empty if no target changes.
        curriculum: First and last task of a curriculum; None without a curriculum.
        ent_coef: Entropy coefficient of the tuned agents.
        gamma: Discount of the tuned agents.
        score: Score of an episode; higher is better.
        jumps: Whether a target jumps at the end of each regime.
    """

    id: str
    regime: int
    changes: Mapping[str, Schedule | float]
    curriculum: tuple[Mapping[str, float], Mapping[str, float]] | None = None
    ent_coef: float = 0.01
    gamma: float = 0.99
    score: Callable[[Episode], float] = length
    jumps: bool = True

    @property
    def life(self) -> int:
        """Env steps of a training run."""
        return REGIMES * self.regime

    def make_curriculum(self) -> LinearRamp | None:
        """Make a curriculum that ends with the training. Return None if the task has no curriculum."""
        return None if self.curriculum is None else LinearRamp(*self.curriculum, over=self.life)


def cart_pole(regime: int) -> dict[str, Task]:
    """Return tasks on CartPole. The score is the episode length.

    Args:
        regime: Length of a regime in env steps.
    """

    def task(changes: Mapping[str, Schedule | float], **options: Any) -> Task:
        return Task("CartPole-v1", regime, changes, **options)

    def rewards(high: float) -> Task:
        return task({"reward.scale": Square(low=1.0, high=high, period=2 * regime)})

    return {
        "stationary": task({}, jumps=False),
        "reward x100": rewards(100.0),
        "dynamics jumps": task(
            {
                "length": Redraw(low=0.1, high=2.0, every=regime),
                "gravity": Redraw(low=5.0, high=20.0, every=regime),
            }
        ),
        "sinusoidal drift": task(sinusoids(regime), jumps=False),
        "action flips": task({"action.flip": Square(low=0.0, high=1.0, period=2 * regime)}, ent_coef=0.05),
        "observation offsets": task({"observation.offset": Redraw(low=-1.0, high=1.0, every=regime)}),
        "reward x30": rewards(30.0),
        "curriculum": task({}, curriculum=({"length": 1.0}, {"length": 0.05}), jumps=False),
    }


def sinusoids(regime: int, speed: float = 1.0) -> dict[str, Schedule]:
    """Make sine waves of CartPole's length and gravity, with periods of 2 and 3 regimes, divided by ``speed``."""
    return {
        "length": Sinusoid(mean=1.0, amplitude=0.9, period=2 * regime / speed),
        "gravity": Sinusoid(mean=12.0, amplitude=8.0, period=3 * regime / speed),
    }


def lake(regime: int) -> dict[str, Task]:
    """Return tasks on FrozenLake. The score is 100 if the episode reaches the goal, otherwise 0.

    Args:
        regime: Length of a regime in env steps.
    """

    def task(changes: Mapping[str, Schedule | float]) -> Task:
        return Task("FrozenLake-v1", regime, changes, ent_coef=0.02, score=goals)

    return {
        "lake, reward x100": task({"reward.scale": Square(low=1.0, high=100.0, period=2 * regime)}),
        "lake, ice": task({"success_rate": Square(low=1 / 3, high=0.8, period=2 * regime)}),
    }
