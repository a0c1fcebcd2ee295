"""An agent's environment: starts, saves and restores its episodes, and lets evaluations use the environment."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from rl_rms.agents.checkpoint_checks import check_episodes, check_place
from rl_rms.agents.collector import Collector
from rl_rms.agents.config import AgentConfig
from rl_rms.agents.env_state import ChangingEnv, EnvState, change_scalars, find_changing
from rl_rms.agents.workers import ALONE, Workers
from rl_rms.envs import NonStationaryVector
from rl_rms.envs.adversary import find_adversaries
from rl_rms.envs.encoding import decode, encode
from rl_rms.envs.faults import EnvError
from rl_rms.envs.layers import OtherWrappersError, WrapperStates

PartT = TypeVar("PartT")


class EnvSession:
    """The environment of an agent and the episodes in progress.

    Args:
        env: The environment; None for an agent that only predicts.
        config: The agent's hyperparameters.
        seed: Seed of the environment.

    Attributes:
        workers: The processes that train together, each in its own sub-environments.
    """

    def __init__(self, env: VectorEnv | None, config: AgentConfig, seed: int) -> None:
        self._seed = seed
        self._logs_restarts = config.on_env_error == "restart"
        self.workers: Workers = ALONE
        self._collector: Collector | None = None
        self._env_state: EnvState | None = None
        if env is not None:
            self._env_state = EnvState(env)
            self._collector = Collector(
                env,
                mask_actions=config.mask_actions,
                log_info=config.log_info,
                on_nonfinite=config.on_nonfinite,
                on_env_error=config.on_env_error,
                env_timeout=config.env_timeout,
            )
        # The environment's state that `start` restores; None before an agent is loaded or episodes are abandoned.
        self._saved_place: dict[str, Any] | None = None
        # The environment's clock at the agent's env step 0.
        self._clock_offset = 0
        # The largest regime of all workers; None with one worker, and before the first rollout.
        self._shared_regime: int | None = None

    @property
    def collector(self) -> Collector:
        """The collector of the environment.

        Raises:
            ValueError: If there is no environment.
        """
        return _known(self._collector)

    @property
    def env_state(self) -> EnvState:
        """The state of the environment.

        Raises:
            ValueError: If there is no environment.
        """
        return _known(self._env_state)

    @property
    def changing(self) -> ChangingEnv | None:
        """The wrapper that makes the environment change; None without such a wrapper."""
        return None if self._env_state is None else self._env_state.changing

    @property
    def started(self) -> bool:
        """Whether the environment waits for actions."""
        return self._collector is not None and self._collector.started

    def check_workers(self, workers: Workers) -> None:
        """Raise an error for an environment that several workers cannot share.

        Raises:
            ValueError: If the workers cannot share the environment, or episodes are in progress.
        """
        if self.started:
            raise ValueError("an agent must join the other workers before learn or prepare; call join first")
        changing = self.changing
        if workers.alone or not isinstance(changing, NonStationaryVector):
            return
        if changing.shard != (workers.rank, workers.size):
            raise ValueError(
                f"worker {workers.rank} of {workers.size} needs its own shard of the environment, got "
                f"shard={changing.shard}; make the environment with shard=(rank, size)"
            )
        if changing.curriculum is not None or find_adversaries(changing.schedules):
            raise ValueError(
                "curricula and adversaries need the episodes of all workers, but a worker has only its own; leave "
                "them out, or train in one process"
            )

    def start(self, num_timesteps: int) -> bool:
        """Reset the environment and restore its saved state, unless episodes are in progress.

        Args:
            num_timesteps: Env steps that the agent has taken.

        Returns:
            Whether new episodes replace saved episodes, because the environment cannot continue them.

        Raises:
            ValueError: If there is no environment, or the agent cannot train in the environment.
        """
        collector = self.collector
        if collector.started:
            return False
        collector.num_timesteps, collector.num_workers = num_timesteps, self.workers.size
        first_row = collector.first_index = self.workers.rank * collector.env.num_envs
        # A resumed agent's new episodes get a new seed.
        collector.start(self._seed + num_timesteps + first_row)
        is_abandoned = self._saved_place is not None and not self._checked_restore(collector, self._saved_place)
        if self.changing is not None:
            self._clock_offset = self.changing.clock - num_timesteps
        return is_abandoned

    def _checked_restore(self, collector: Collector, place: dict[str, Any]) -> bool:
        """Restore the environment's state. For a damaged file or a different environment, raise a ValueError."""
        try:
            return self._restore(collector, place)
        except EnvError:
            raise
        except Exception as error:  # also errors of the environment while it replays the file's actions
            collector.stop()
            message = " ".join(str(error).split())
            raise ValueError(
                f"the saved state of the environment cannot be restored: {type(error).__name__}: {message}; "
                "make the environment exactly as for the saved training run, or load an earlier checkpoint"
            ) from error

    def _restore(self, collector: Collector, place: dict[str, Any]) -> bool:
        """Restore the environment's state, and return whether the saved episodes continue.

        With several workers, or with another number of sub-environments, new episodes begin with the saved clock,
        drift and curriculum.
        """
        episodes = decode(place["episodes"])
        # With several workers, the saved episodes belong to one worker.
        if not self.workers.alone or len(episodes["resetting"]) != collector.env.num_envs:
            self.env_state.load_state_dict({**place["env_state"], "environment": None}, collector.resetting)
            if isinstance(self.changing, NonStationaryVector):
                self._restart_with_saved_wrappers(collector)
            return False
        if not self.env_state.load_state_dict(place["env_state"], episodes["resetting"]):
            return False
        check_episodes(episodes, collector.state_dict())
        collector.load_state_dict(episodes)
        return True

    def _restart_with_saved_wrappers(self, collector: Collector) -> None:
        """Begin new episodes with the saved states of the wrappers, such as running statistics."""
        collector.stop()
        try:
            self.lend_wrapper_states(collector.env)
        except OtherWrappersError as error:
            warnings.warn(f"new episodes begin: {error}", stacklevel=2)
        collector.pop_num_nonfinite()  # of the reset before this one
        collector.start(None)

    def abandon_episodes(self) -> None:
        """Begin new episodes at the next `start`, with the current clock, drift and curriculum."""
        place = self._place(within_episodes=False)
        self.collector.stop()
        self._saved_place = place

    def set_clock(self, num_timesteps: int) -> None:
        """Set the env steps, the clock and the regime of all workers; every worker must call this method.

        During a rollout, a worker only estimates them. Independent clocks count only the env steps of their own
        sub-environments, so they need no correction.
        """
        self.collector.num_timesteps = num_timesteps
        changing = self.changing
        if changing is None:
            return
        is_independent = isinstance(changing, NonStationaryVector) and changing.sharing == "independent"
        if not is_independent and changing.clock != self._clock_offset + num_timesteps:
            changing.clock = self._clock_offset + num_timesteps
        own = np.array([np.max(changing.regime)], dtype=np.float64)
        self._shared_regime = int(self.workers.all_gather(own).max())

    @contextmanager
    def lent(self, clock: int | None = None) -> Iterator[None]:
        """Return a context in which an evaluation may step the environment.

        The end of the context restores the agent's episodes. If the episodes cannot be restored, the next `start`
        begins new episodes with the same clock, drift and curriculum.

        Args:
            clock: Clock reading at which a `NonStationaryVector` is frozen, in env steps; None for the current
                reading.
        """
        collector, changing = self.collector, self.changing
        frozen = changing.frozen(clock) if isinstance(changing, NonStationaryVector) else nullcontext()
        if not collector.started:
            with frozen:
                yield
            return
        place = self._place()
        is_kept = False
        try:
            with frozen:
                yield
            if isinstance(changing, NonStationaryVector):
                is_kept = place["env_state"]["environment"] is not None
                if is_kept:
                    self.env_state.load_wrappers(place["env_state"])
            else:
                collector.env.reset()
                is_kept = self.env_state.load_state_dict(place["env_state"], collector.resetting)
        finally:
            # The evaluation's collector has made error messages count sub-environments from 0.
            collector.first_index = self.workers.rank * collector.env.num_envs
            if not is_kept:
                collector.stop()
                self._saved_place = place

    def lend_wrapper_states(self, env: VectorEnv) -> None:
        """Copy the state of this environment's wrappers to another environment of `rl_rms.envs.make_vec`.

        Raises:
            ValueError: If the two environments have different wrappers, or the saved state is damaged.
        """
        borrower = find_changing(env)
        if not isinstance(borrower, NonStationaryVector):
            return
        states = self._wrapper_states()
        if states and borrower.last_observations is None:
            # With a restored state, some wrappers, such as EpisodicLifeEnv of Stable-Baselines3, begin an episode
            # with a step, which needs an earlier reset.
            borrower.reset()
        try:
            borrower.wrapper_states = states
        except OtherWrappersError:
            raise
        except Exception as error:  # a damaged file may hold anything
            raise ValueError(
                f"the saved state of the wrappers cannot be restored: {type(error).__name__}: {error}; load an "
                "earlier checkpoint"
            ) from error

    def lend_curriculum(self, env: VectorEnv) -> bool:
        """Copy the state of this environment's curriculum to another environment, and return whether there is one.

        A reset of the other environment with a seed restarts its curriculum.

        Raises:
            ValueError: If the other environment has another curriculum, or the saved state is damaged.
        """
        borrower = find_changing(env)
        if borrower is None or borrower.curriculum is None:
            return False
        try:
            if self.changing is not None and self.changing.curriculum is not None:
                state = self.changing.curriculum.state_dict()
            elif self._saved_place is not None:
                state = self._saved_place["env_state"]["curriculum"]
            else:
                return False
            borrower.curriculum.load_state_dict(state)
        except Exception as error:  # a damaged file may hold anything
            raise ValueError(
                f"the saved state of the curriculum cannot be restored: {type(error).__name__}: {error}; load an "
                "earlier checkpoint"
            ) from error
        return True

    def _wrapper_states(self) -> WrapperStates:
        if self.started:
            return self.changing.wrapper_states if isinstance(self.changing, NonStationaryVector) else []
        saved = None if self._saved_place is None else self._saved_place["env_state"]["environment"]
        if saved is None or "each" not in saved:  # natively vectorized, so there are no separate sub-environments
            return []
        return [(one["wrappers"], outer) for one, outer in zip(saved["each"], saved["wrappers"], strict=True)]

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the environment's wrappers whose state cannot be restored after a load or an evaluation."""
        return [] if self._env_state is None else self._env_state.lost_wrappers

    def regime(self) -> int | None:
        """The largest regime index of all workers' sub-environments; None without a changing environment.

        Before the first rollout of several workers, the index covers only this worker's sub-environments.
        """
        if self.changing is None or self._shared_regime is not None:
            return self._shared_regime
        return int(np.max(self.changing.regime))

    def scalars(self) -> dict[str, float]:
        """Scalars of the environment's changes, and the number of restarts, by TensorBoard tag.

        The scalars cover all workers; every worker must call this method.
        """
        changing, workers = self.changing, self.workers
        scalars = {} if changing is None else change_scalars(changing)
        if not workers.alone and changing is not None and changing.sharing != "shared":
            scalars = workers.mean(scalars, 1.0)
            scalars["env/regime"] = float(self.regime() or 0)
        if self._logs_restarts:
            restarts = np.array([self.collector.num_restarts], dtype=np.float64)
            scalars["env/num_restarts"] = float(workers.sum(restarts)[0])
        return scalars

    def pop_info_means(self) -> dict[str, float]:
        """Return the means of the entries of ``log_info`` since the last call, by TensorBoard tag."""
        sums = self.collector.info_sums
        means = {} if sums is None else sums.pop_means(self.workers)
        return {f"info/{name}": mean for name, mean in means.items()}

    def state_dict(self) -> dict[str, Any]:
        """The environment's state as bytes, because the size of a file's header is limited."""
        place = self._place() if self.started else self._saved_place
        return {"place": None if place is None else _to_tensor(json.dumps(place))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`. The next `start` restores this state."""
        if state["place"] is not None:
            place = json.loads(state["place"].numpy().tobytes())
            check_place(place)
            self._saved_place = place

    def _place(self, *, within_episodes: bool = True) -> dict[str, Any]:
        """The environment's state as plain JSON data.

        Without ``within_episodes``, the environment's part contains only clock, drift and curriculum.
        """
        observations = self.collector.observations
        return {
            "env_state": self.env_state.state_dict(observations, within_episodes=within_episodes),
            "episodes": encode(self.collector.state_dict()),
        }


def _known(part: PartT | None) -> PartT:
    if part is None:
        raise ValueError("this agent has no environment to learn in; give env=... when you make or load the agent")
    return part


def _to_tensor(text: str) -> Tensor:
    """The bytes of a text, shape ``(length,)``."""
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
