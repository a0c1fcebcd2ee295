"""The callback that evaluates an agent during its training, keeps the best one and stops the training."""

import copy
import math
import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from gymnasium.vector import AsyncVectorEnv, VectorEnv

from rl_rms.agents.callbacks import Periodic
from rl_rms.agents.checkpoint_callback import save_or_warn
from rl_rms.agents.env_state import find_changing
from rl_rms.agents.evaluation import Evaluation, evaluate, evaluation_seed
from rl_rms.agents.logger import Logger
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.envs import NonStationaryVector
from rl_rms.envs.checks import check_flag, check_int, check_number


class Evaluated(NamedTuple):
    """An evaluation with its settings.

    Attributes:
        num_timesteps: Env steps that the agent had lived.
        clock: The clock that was asked for, None where it stood.
        deterministic: Whether the most likely actions were played.
        evaluation: The result.
    """

    num_timesteps: int
    clock: int | None
    deterministic: bool
    evaluation: Evaluation


class EvalCallback(Periodic):
    """Plays whole episodes at regular env steps and at the end, beside the training.

    It logs ``eval/mean_reward``, ``eval/mean_ep_length`` and, where the environment reports successes,
    ``eval/success_rate``. With ``deterministic="both"`` it logs the same for drawn actions under
    ``eval/stochastic/``.

    The training is not disturbed. Evaluations are played in an environment of their own, or in the agent's, which
    is frozen meanwhile and then continues its episodes; the agent's random generator is restored, too. If the
    state of a wrapper cannot be restored, they are played in a copy, or there is a warning.

    Args:
        env: Environment of its own, on a clock of its own; None for the agent's, which then has to be a
            `rl_rms.envs.NonStationaryVector`.
        every: Env steps between two evaluations.
        episodes: Episodes of each.
        deterministic: Whether to play the most likely actions, or drawn ones, or ``"both"``, one after the other,
            of which the former decide on the best agent and on stopping.
        clocks: Values of the environment's clock, in env steps, at which it is evaluated:
            ``eval/mean_reward/at_<clock>``. None evaluates where the clock stands.
        best_path: File that the agent is saved to whenever its mean return, over all clocks, is the best so far.
        stop_at: Mean return, over all clocks, with which the training stops.
        patience: Evaluations in a row without a better mean return after which the training stops, >= 1.
        at_end: Whether to evaluate at the end of the training too.
        seed: Seeds the environment at each evaluation, >= 0. None derives another seed from the agent's, so that
            evaluations do not repeat the training's episodes.

    Attributes:
        results: All evaluations so far.
        best_mean_reward: The best mean return, over all clocks; ``-inf`` before the first.

    Raises:
        ValueError: If an argument is out of its range. When the training starts, if the agent's environment cannot
            be frozen.
    """

    def __init__(
        self,
        env: VectorEnv | None = None,
        every: int = 10_000,
        episodes: int = 10,
        deterministic: bool | Literal["both"] = True,
        clocks: Sequence[int] | None = None,
        best_path: str | Path | None = None,
        stop_at: float | None = None,
        patience: int | None = None,
        at_end: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(every, at_end=at_end)
        self.seed = None if seed is None else check_int("seed", seed, least=0)
        self.patience = None if patience is None else check_int("patience", patience, least=1, unit="evaluations")
        self.env = env
        self.episodes = check_int("episodes", episodes, least=1)
        if deterministic != "both":
            check_flag("deterministic", deterministic)
        self.deterministic = deterministic
        self.clocks = None if clocks is None else tuple(check_int("clocks", one, least=0) for one in clocks)
        self.best_path = None if best_path is None else Path(best_path)
        self.stop_at = None if stop_at is None else check_number("stop_at", stop_at)
        self.results: list[Evaluated] = []
        self.best_mean_reward = -math.inf
        self._since_best = 0
        self._has_warned = False

    def state_dict(self) -> dict[str, Any]:
        """The best mean return, and the evaluations since."""
        return {"best_mean_reward": self.best_mean_reward, "since_best": self._since_best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        self.best_mean_reward, self._since_best = float(state["best_mean_reward"]), int(state["since_best"])

    def metrics(self) -> Iterable[str]:
        """Mean returns."""
        return [f"eval/mean_reward{_at(clock)}" for clock in self.clocks or (None,)]

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Look for the next multiple.

        Raises:
            ValueError: If there is no environment to evaluate in.
        """
        super().on_training_start(agent, logger)
        self._find_env(agent)

    def act(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Evaluate once, at each of the clocks."""
        scalars: dict[str, float] = {}
        returns = []
        ways = (True, False) if self.deterministic == "both" else (bool(self.deterministic),)
        with agent.undisturbed():
            for clock in self.clocks or (None,):
                for way in ways:
                    result = self._evaluate(agent, clock, way)
                    self.results.append(Evaluated(agent.num_timesteps, clock, way, result))
                    kind = "eval" if way is ways[0] else "eval/stochastic"
                    suffix = _at(clock)
                    scalars[f"{kind}/mean_reward{suffix}"] = result.mean_reward
                    scalars[f"{kind}/mean_ep_length{suffix}"] = result.mean_ep_length
                    if len(result.successes):
                        scalars[f"{kind}/success_rate{suffix}"] = result.success_rate
                    if way is ways[0]:
                        returns.append(result.mean_reward)
        logger.write(agent.num_timesteps, scalars)
        return False if self._is_enough(agent, fmean(returns)) else None

    def _is_enough(self, agent: TrainedAgent, mean_reward: float) -> bool:
        """Whether the training is to stop; keeps the best agent."""
        self._since_best += 1
        if mean_reward > self.best_mean_reward:
            self.best_mean_reward, self._since_best = mean_reward, 0
            if self.best_path is not None:
                save_or_warn(agent, self.best_path)
        reached = self.stop_at is not None and mean_reward >= self.stop_at
        return reached or (self.patience is not None and self._since_best >= self.patience)

    def _evaluate(self, agent: TrainedAgent, clock: int | None, deterministic: bool) -> Evaluation:
        seed = evaluation_seed(agent.seed) if self.seed is None else self.seed
        play = partial(evaluate, agent, episodes=self.episodes, deterministic=deterministic, seed=seed)
        env = self._find_env(agent)
        copied = None if env is self.env else self._copy(agent)
        if copied is None:
            return play(env, clock=clock)
        world = find_changing(copied)
        assert isinstance(world, NonStationaryVector)
        try:
            with ExitStack() as stack:
                with warnings.catch_warnings():
                    # The copy needs no way back.
                    warnings.simplefilter("ignore")
                    stack.enter_context(world.frozen(clock))
                return play(copied)
        finally:
            copied.close()

    def _find_env(self, agent: TrainedAgent) -> VectorEnv:
        """The environment to evaluate in.

        Raises:
            ValueError: If there is none.
        """
        if self.env is not None:
            return self.env
        if agent.env is None or not isinstance(find_changing(agent.env), NonStationaryVector):
            raise ValueError(
                "EvalCallback needs an environment of its own, or an agent whose environment can be frozen; "
                "give env=..., or make the agent's with rl_rms.envs.make_vec"
            )
        return agent.env

    def _copy(self, agent: TrainedAgent) -> VectorEnv | None:
        """A copy of the agent's environment, or None if it can be restored or cannot be copied."""
        lost = agent.lost_wrappers
        if not lost or self._has_warned:
            return None
        assert agent.env is not None
        try:
            if isinstance(agent.env.unwrapped, AsyncVectorEnv):
                raise TypeError("its workers are other processes")
            return copy.deepcopy(agent.env)
        except Exception as error:
            self._has_warned = True
            warnings.warn(
                f"evaluations in the agent's environment change its training, since the state of "
                f"{' and '.join(lost)} cannot be restored and the environment cannot be copied "
                f"({type(error).__name__}: {error}); give EvalCallback env=...",
                stacklevel=2,
            )
            return None


def _at(clock: int | None) -> str:
    return "" if clock is None else f"/at_{clock}"
