"""The callback that evaluates an agent during its training, saves the best agent and can stop the training."""

import copy
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
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
    """The settings and the result of an evaluation.

    Attributes:
        num_timesteps: Env steps that the agent had taken.
        clock: The requested clock reading; None without a requested reading.
        deterministic: Whether the agent took the most likely actions.
        evaluation: The result.
    """

    num_timesteps: int
    clock: int | None
    deterministic: bool
    evaluation: Evaluation


class EvalCallback(Periodic):
    """Evaluates the agent in whole episodes, at regular env steps.

    The callback logs ``eval/mean_reward``, ``eval/mean_ep_length`` and, if the environment reports successes,
    ``eval/success_rate``. With ``deterministic="both"``, the results of sampled actions are under
    ``eval/stochastic/``.

    Evaluations use a separate environment or the agent's environment, and do not change the training without a
    warning. In the agent's environment, the clock is frozen during an evaluation, and the agent's episodes
    continue afterwards. The agent's random generator is restored. If the state of a wrapper cannot be restored,
    evaluations use a copy of the agent's environment. If the environment cannot be copied, the callback warns that
    evaluations change the training.

    Args:
        env: Separate environment with its own clock. None uses the agent's environment, which must then be a
            `rl_rms.envs.NonStationaryVector`, with or without wrappers around it.
        every: Env steps between two evaluations.
        episodes: Episodes of each evaluation.
        deterministic: Whether to take the most likely actions (True), to sample them (False), or to evaluate with
            both (``"both"``). With ``"both"``, the most likely actions decide on the best agent and on stopping.
        clocks: Clock readings, in env steps, at which the agent is evaluated, with tags
            ``eval/mean_reward/at_<clock>``. None evaluates at the current reading of the agent's environment, or
            in a separate environment whose clock starts at 0.
        best_path: File for the agent with the best mean return over all clock readings so far; None saves no
            agent.
        stop_at: Mean return over all clock readings at which the training stops; None for no such limit.
        patience: Evaluations in a row without a better mean return after which the training stops, >= 1; None for
            no such limit.
        at_end: Whether to evaluate also after the rollout that reaches the ``total_timesteps`` of `Agent.learn`.
        seed: Seed of the environment in each evaluation, >= 0. None derives a seed from the agent's seed, so that
            evaluations do not repeat the training's episodes.

    Attributes:
        progress: Function that is called after each evaluation episode with the number of finished episodes and
            the number of all episodes; None for no function. `ProgressCallback` sets this function.
        results: All evaluations since this callback was made.
        best_mean_reward: The best mean return over all clock readings; it is ``-inf`` before the first evaluation.

    Raises:
        ValueError: If an argument is out of its range; or at the start of the training, if ``env`` is None and the
            agent's environment is not a `rl_rms.envs.NonStationaryVector`.
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
        self.clocks = None if clocks is None else tuple(check_int("clocks", clock, least=0) for clock in clocks)
        self.best_path = None if best_path is None else Path(best_path)
        self.stop_at = None if stop_at is None else check_number("stop_at", stop_at)
        self.progress: Callable[[int, int], None] | None = None
        self.results: list[Evaluated] = []
        self.best_mean_reward = -math.inf
        self._since_best = 0
        self._has_warned = False

    def state_dict(self) -> dict[str, Any]:
        """The best mean return, and the number of evaluations since the best evaluation."""
        return {"best_mean_reward": self.best_mean_reward, "since_best": self._since_best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`."""
        self.best_mean_reward, self._since_best = float(state["best_mean_reward"]), int(state["since_best"])

    def metrics(self) -> Iterable[str]:
        """The tags of the mean returns."""
        return [f"eval/mean_reward{_at(clock)}" for clock in self.clocks or (None,)]

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Check the environment, and compute the env steps of the first evaluation.

        Raises:
            ValueError: If there is no environment to evaluate in.
        """
        super().on_training_start(agent, logger)
        self._find_env(agent)

    def act(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Evaluate the agent at each of the clock readings."""
        scalars: dict[str, float] = {}
        returns = []
        modes = (True, False) if self.deterministic == "both" else (bool(self.deterministic),)
        with agent.actor.undisturbed():
            for clock, mode in itertools.product(self.clocks or (None,), modes):
                result = self._evaluate(agent, clock, mode)
                self.results.append(Evaluated(agent.num_timesteps, clock, mode, result))
                kind, suffix = "eval/stochastic", _at(clock)
                if mode is modes[0]:
                    kind = "eval"
                    returns.append(result.mean_reward)
                scalars[f"{kind}/mean_reward{suffix}"] = result.mean_reward
                scalars[f"{kind}/mean_ep_length{suffix}"] = result.mean_ep_length
                if len(result.successes):
                    scalars[f"{kind}/success_rate{suffix}"] = result.success_rate
        logger.write(agent.num_timesteps, scalars)
        return False if self._is_enough(agent, fmean(returns)) else None

    def _is_enough(self, agent: TrainedAgent, mean_reward: float) -> bool:
        """Save the best agent, and return whether the training should stop."""
        self._since_best += 1
        if mean_reward > self.best_mean_reward:
            self.best_mean_reward, self._since_best = mean_reward, 0
            if self.best_path is not None:
                save_or_warn(agent, self.best_path)
        reached = self.stop_at is not None and mean_reward >= self.stop_at
        return reached or (self.patience is not None and self._since_best >= self.patience)

    def _evaluate(self, agent: TrainedAgent, clock: int | None, deterministic: bool) -> Evaluation:
        seed = evaluation_seed(agent.seed) if self.seed is None else self.seed
        play = partial(
            evaluate, agent, episodes=self.episodes, deterministic=deterministic, seed=seed, progress=self.progress
        )
        env = self._find_env(agent)
        copied = None if env is self.env else self._copy(agent)
        if copied is None:
            return play(env, clock=clock)
        changing = find_changing(copied)
        assert isinstance(changing, NonStationaryVector)
        try:
            with ExitStack() as stack:
                with warnings.catch_warnings():
                    # Warnings about states that cannot be restored do not concern the copy, which is closed.
                    warnings.simplefilter("ignore")
                    stack.enter_context(changing.frozen(clock))
                return play(copied)
        finally:
            copied.close()

    def _find_env(self, agent: TrainedAgent) -> VectorEnv:
        """The environment for evaluations.

        Raises:
            ValueError: If there is no environment for evaluations.
        """
        if self.env is not None:
            return self.env
        if agent.env is None or not isinstance(find_changing(agent.env), NonStationaryVector):
            raise ValueError(
                "EvalCallback needs a separate environment, or an agent whose environment can be frozen; "
                "give env=..., or make the agent's environment with rl_rms.envs.make_vec"
            )
        return agent.env

    def _copy(self, agent: TrainedAgent) -> VectorEnv | None:
        """A copy of the agent's environment; None if no copy is needed or possible."""
        lost = agent.session.lost_wrappers
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
                f"evaluations in the agent's environment change its training, because the state of "
                f"{' and '.join(lost)} cannot be restored and the environment cannot be copied "
                f"({type(error).__name__}: {error}); give EvalCallback env=...",
                stacklevel=2,
            )
            return None


def _at(clock: int | None) -> str:
    return "" if clock is None else f"/at_{clock}"
