"""What REINFORCE and A2C share: the training loop, predicting, saving and loading."""

import dataclasses
import functools
import json
import secrets
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, TypeVar, get_args

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import VectorEnv
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn

from rl_rms.agents import checkpoint
from rl_rms.agents.callbacks import CallbackLike, CallbackList, as_callback
from rl_rms.agents.changes import ChangeResponse
from rl_rms.agents.config import DEFAULT_OPTIMIZER, AgentConfig, PolicyConfig, as_schedule
from rl_rms.agents.distributions import Distribution
from rl_rms.agents.fused import FusedActorCritic, fuse
from rl_rms.agents.interruption import first_waits
from rl_rms.agents.logger import Logger
from rl_rms.agents.losses import LossTerms, actor_critic_loss, first_nonfinite
from rl_rms.agents.masks import as_action_masks, check_action_masks
from rl_rms.agents.meta import Experience, MetaGradient
from rl_rms.agents.normalize import ObservationNormalizer, RewardNormalizer
from rl_rms.agents.optimizers import OptimizerLike, describe_memory, make_optimizer
from rl_rms.agents.policies import ActorCriticPolicy
from rl_rms.agents.rollout import Collector, Episode, Rollout, as_vector_env
from rl_rms.agents.spaces import ACTION_MASK, action_mask_size, space_from_dict, space_to_dict, to_env
from rl_rms.agents.stepping import NO_CHANCE, Stepper, Where, name_nonfinite_gradient
from rl_rms.agents.trees import Tree, first_leaf, tree_map
from rl_rms.agents.workers import ALONE, Chance, SharedChance, Workers
from rl_rms.agents.world import Surroundings, world_scalars
from rl_rms.envs import NonStationaryVector
from rl_rms.envs.adversary import find_adversaries
from rl_rms.envs.checks import check_whole
from rl_rms.envs.faults import EnvError
from rl_rms.envs.schedules import Constant
from rl_rms.envs.snapshots import decode, encode
from rl_rms.half_life import Timescale
from rl_rms.optim.rmsprop import RMSprop

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Self = TypeVar("Self", bound="OnPolicyAgent")
EnvLike = str | gym.Env[Any, Any] | VectorEnv


class OnPolicyAgent(ABC):
    """An agent that learns from what its present policy does.

    Args:
        env: A Gymnasium id, environment or vector environment; None for an agent that only predicts, which
            then needs both spaces.
        config: Hyperparameters.
        policy: A module with `ActorCriticPolicy`'s interface; None builds one from the configuration.
        optimizer: Optimizer class, where it is not the one that the configuration names.
        seed: Seeds the network's initial weights, the actions and the environment; None draws one.
        observation_space: Of one sub-environment; taken from ``env`` where there is one.
        action_space: Likewise.

    Attributes:
        policy: The torch module.
        optimizer: The torch optimizer.
        generator: Where the chance in its actions comes from.
        observation_normalizer: What scales the observations, None where nothing does.
        reward_normalizer: What scales the rewards, None where nothing does.
        meta: What adapts the optimizer's hyperparameters, None where they stay.
        num_timesteps: Env steps lived so far, all sub-environments together.
        num_updates: Optimizer steps taken so far.
        num_nonfinite: Rewards, observations and updates' gradients so far that were nan or infinite.
        episodes: The last 100 finished episodes.
        new_episodes: Those that finished in the last update's rollout.
        workers: The processes that train it together, see `join`.
    """

    algorithm: ClassVar[str]
    config_class: ClassVar[type[AgentConfig]]
    config: AgentConfig
    workers: Workers = ALONE
    # Everyone's env steps in the last rollout, and this worker's share of the transitions that were used.
    _env_steps = 0
    _share = 1.0
    # Whether anyone has a transition to learn from.
    _learns = True
    # Whether `interrupt` was called, and whether anything broke off an optimizer step.
    _is_interrupted = _is_half_stepped = False

    def __init__(
        self,
        env: EnvLike | None,
        config: AgentConfig,
        *,
        policy: nn.Module | None = None,
        optimizer: OptimizerLike | None = None,
        seed: int | None = None,
        observation_space: gym.Space[Any] | None = None,
        action_space: gym.Space[Any] | None = None,
    ) -> None:
        self.config = config
        if isinstance(env, gym.Env) and config.on_env_error == "restart":
            raise ValueError(
                f"on_env_error='restart' needs a way to make the environment anew, got {env!r}; give its id, or "
                "gymnasium.vector.SyncVectorEnv([make])"
            )
        self.env = None if env is None else as_vector_env(env)
        if self.env is not None:
            observation_space, action_space = self.env.single_observation_space, self.env.single_action_space
        if observation_space is None or action_space is None:
            raise ValueError("an agent needs env, or else observation_space and action_space, got env=None")
        for space in (observation_space, action_space):
            space_to_dict(space)  # raises before the training what could not be saved after it
        self.observation_space: gym.Space[Any] = observation_space
        self.action_space: gym.Space[Any] = action_space
        self.seed = secrets.randbelow(2**31) if seed is None else check_whole("seed", seed, least=0)
        self.device = _device(config.device)
        self.user_policy = policy is not None
        if policy is None:
            with _one_thread(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                policy = ActorCriticPolicy(self.observation_space, self.action_space, config.policy)
        self.policy = _checked(policy).to(self.device).eval()
        self.optimizer = make_optimizer(self.policy, config, optimizer)
        if self.steps_per_update == 1 and config.policy.norm == "batch":
            raise ValueError(
                'norm="batch" needs more than one transition in an update; take more sub-environments or n_steps'
            )
        self._ent_coef = as_schedule(config.ent_coef)
        self._fused: FusedActorCritic | None = None
        if config.mask_actions:
            action_mask_size(self.action_space)  # raises where there can be none
        self.generator = np.random.default_rng(self.seed)
        num_envs = 1 if self.env is None else self.env.num_envs
        self.observation_normalizer = (
            ObservationNormalizer(self.observation_space) if config.normalize_observation else None
        )
        self.reward_normalizer = RewardNormalizer(num_envs, config.gamma) if config.normalize_reward else None
        # What a recurrent policy remembers now, and what it did when the present rollout began.
        self._state = self._rollout_state = self._no_memory(num_envs)
        self._changes = ChangeResponse(config, self.optimizer)
        self.meta: MetaGradient | None = None
        if config.meta is not None:
            if not isinstance(self.optimizer, RMSprop):
                raise ValueError(
                    f"meta adapts {DEFAULT_OPTIMIZER}, not {type(self.optimizer).__name__}; leave one of them out"
                )
            self.meta = MetaGradient(self.policy, self.optimizer, config.meta)
        self._stepper = Stepper(self.policy, self.optimizer, config, self.meta)
        self.num_timesteps = self.num_updates = self.num_nonfinite = 0
        self.episodes: deque[Episode] = deque(maxlen=100)
        self.new_episodes: list[Episode] = []
        # Made here, so that the time limit of workers holds from now on.
        self._collector = None if self.env is None else self._make_collector(self.env)
        self._surroundings = None if self.env is None else Surroundings(self.env)
        # Where a saved agent was in its environment, until it is put back there.
        self._saved_place: dict[str, Any] | None = None
        # The callbacks of the present training; before the first `learn` of a loaded agent, their saved states.
        self._callbacks: CallbackList | None = None
        self._callback_states: dict[str, Any] = {}
        # The user's own word on the time scale stands.
        self._tells_timescale = isinstance(self.optimizer, RMSprop) and self.optimizer.timescale is None
        self._tell_timescale()

    @classmethod
    def from_config(
        cls: type[Self], config: AgentConfig, env: EnvLike | None, *, seed: int | None = None, **kwargs: Any
    ) -> Self:
        """Build an agent from its configuration, as the command line does."""
        agent = cls.__new__(cls)
        OnPolicyAgent.__init__(agent, env, config, seed=seed, **kwargs)
        return agent

    def join(self: Self, workers: Workers, where: Where = "global") -> Self:
        """Train together with other processes from now on, each in its own sub-environments.

        Every worker makes the same agent, with the same seed, in an equal part of the sub-environments (see
        ``part`` of `rl_rms.envs.NonStationaryVector`), joins, and calls `learn` with the same env steps, which
        are those of all together. Weights are the same everywhere after every update: with ``where="global"`` as
        if one process had all sub-environments, but for the order in which sums are taken. Episodes, counts and
        metrics are everyone's in every worker; callbacks and logs are each worker's own.

        Args:
            workers: The processes.
            where: ``"global"`` averages gradients, then clips and normalizes them as one process would.
                ``"local"`` has each worker clip and normalize its own gradient by its own second moment, and then
                averages the steps.

        Returns:
            The agent itself.

        Raises:
            ValueError: If something of the agent goes by what one worker alone does not see.
        """
        _check_shared(self, workers, where)
        self.workers = self._stepper.workers = workers
        self._stepper.where = "global" if workers.alone else where
        self._tell_timescale()
        return self

    # -- learning -----------------------------------------------------------------------------------------

    @abstractmethod
    def enough(self, num_steps: int, episodes: list[Episode]) -> bool:
        """Whether a rollout of ``num_steps`` vector steps with these finished episodes makes an update."""

    @abstractmethod
    def used(self, rollout: Rollout) -> Bools:
        """Which of a rollout's transitions are learned from, shape ``(num_steps, num_envs)``."""

    @abstractmethod
    def terms(self) -> LossTerms:
        """The loss's discounts and weights at present."""

    @property
    def ent_coef(self) -> float:
        """The entropy bonus' present weight."""
        return self._ent_coef.value(self.num_timesteps, NO_CHANCE)

    def loss(self, rollout: Rollout) -> tuple[Tensor, dict[str, float]]:
        """The scalar to minimize, `actor_critic_loss`, and its parts by TensorBoard tag.

        Args:
            rollout: What happened, observations and rewards as the policy and the critic are to see them.
        """
        used, terms = self.used(rollout), self.terms()
        return actor_critic_loss(self.policy, rollout, used, terms, self._rollout_state, self.workers)

    @property
    def steps_per_update(self) -> int | None:
        """Env steps between two updates, None where that varies."""
        return None

    def learn(
        self: Self,
        total_timesteps: int,
        callback: CallbackLike | Iterable[CallbackLike] | None = None,
        progress_bar: bool = False,
        log_dir: str | Path | None = None,
        log_interval: int = 100,
    ) -> Self:
        """Train for at least ``total_timesteps`` more env steps.

        Ctrl-C raises KeyboardInterrupt after the update in progress, and a run saved then is resumed
        bit-identically. A second Ctrl-C raises it at once. An update or evaluation that waits for episodes to end
        is left at a multiple of 1,000 vector steps. `interrupt` does the same for other signals.

        Args:
            total_timesteps: Env steps, all sub-environments together; the update that passes them is the last.
            callback: A function of the agent, called after every update, that stops the training by returning
                False; or a `Callback`; or several of them.
            progress_bar: Whether to show progress: a live view in a terminal, plain lines elsewhere.
            log_dir: Folder for TensorBoard events and ``metrics.csv``; None writes nothing.
            log_interval: Updates between two entries of the log.

        Returns:
            The agent itself.

        Raises:
            ValueError: If ``total_timesteps`` or ``log_interval`` is below 1, or the agent has no environment.
            EnvError: If a sub-environment failed; what callbacks save then goes on in new episodes.
            KeyboardInterrupt: If it was interrupted.
            rl_rms.agents.files.UnwritableError: If ``log_dir`` cannot be written to at the beginning.
            rl_rms.agents.files.TakenError: If another process logs into it.
        """
        total_timesteps = check_whole("total_timesteps", total_timesteps, least=1)
        log_interval = check_whole("log_interval", log_interval, least=1)
        collector = self._start()
        # Anew each time, since parameters may have been frozen or modules hooked meanwhile.
        self._fused = fuse(self.policy) if self.config.fused and not self.config.mask_actions else None
        self.target_timesteps = self.num_timesteps + total_timesteps
        callbacks = self._with_saved_states(as_callback(callback))
        if progress_bar:
            from rl_rms.agents.progress import ProgressCallback

            callbacks.add(ProgressCallback())
        # Small products are several times slower on many threads.
        threads = nullcontext() if self._fused is None else _blas().limit(limits=1, user_api="blas")
        folder = None if log_dir is None else Path(log_dir)
        with threads, Logger(folder, self.num_timesteps) as logger, first_waits(self.interrupt):
            logger.hyperparameters(self.hyperparameters(), callbacks.metrics())
            self._clock = (time.perf_counter(), self.num_timesteps)
            callbacks.on_training_start(self, logger)
            try:
                first = True
                stops = within_rollout = False
                # Metrics are everyone's, so all compute them where one logs.
                logs = not self.workers.every(logger.folder is None)
                while self.num_timesteps < self.target_timesteps:
                    if self._is_interrupted and self.workers.alone:
                        break
                    within_rollout = True
                    collector = self._start()
                    rollout = self._collect(collector)
                    if self._take_stock(rollout, collector, stops=stops):
                        break
                    last = self.num_timesteps >= self.target_timesteps
                    due = logs and (first or last or (self.num_updates + 1) % log_interval == 0)
                    first = False
                    self._meet_changes(logger)
                    metrics = self._update(rollout, with_metrics=due)
                    within_rollout = False
                    if due:
                        self._log(logger, self.workers.mean(metrics, self._share))
                    stops = callbacks.on_update(self, logger) is False
                    if stops and self.workers.alone:
                        break
            except BaseException:
                if within_rollout:
                    # What is saved now goes on in new episodes.
                    collector.stop()
                    self._saved_place = self._place(collector, within_episodes=False)
                raise
            finally:
                callbacks.on_training_end(self, logger)
        if self._is_interrupted:
            self._is_interrupted = False
            raise KeyboardInterrupt
        return self

    def interrupt(self) -> None:
        """Have `learn` end by KeyboardInterrupt, the agent being whole: once the update in progress is done.

        It may be called from a signal's handler or from another thread. Of workers that train together it ends
        all, whichever of them it is called in.
        """
        self._is_interrupted = True

    def raise_if_interrupted(self) -> None:
        """End a long update or evaluation if this worker, or one that trains with it, was interrupted.

        Raises:
            KeyboardInterrupt: If it was.
        """
        if not self.workers.every(not self._is_interrupted):
            self._is_interrupted = False
            raise KeyboardInterrupt

    def _with_saved_states(self, callbacks: CallbackList) -> CallbackList:
        """The callbacks, at a loaded agent's first `learn` with the states that were saved."""
        callbacks.load_state_dict(self._callback_states)
        self._callbacks, self._callback_states = callbacks, {}
        return callbacks

    @property
    def can_be_saved(self) -> bool:
        """Whether nothing broke off an optimizer step, which would have left some weights moved and others not."""
        return not self._is_half_stepped

    def _take_stock(self, rollout: Rollout, collector: Collector, *, stops: bool) -> bool:
        """Count what everyone's rollouts came to.

        Args:
            rollout: This worker's.
            collector: What counts on from there.
            stops: Whether this worker wants to stop.

        Returns:
            Whether anyone wants to, so that the rollout is to be left.
        """
        workers = self.workers
        self._env_steps, counts = rollout.env_steps, [len(rollout.episodes)]
        found, collector.num_nonfinite = collector.num_nonfinite, 0
        if not workers.alone:
            used = np.count_nonzero(self.used(rollout))
            row = [self._env_steps, used, counts[0], stops, self._is_interrupted, found]
            told = workers.rows(np.array(row, dtype=np.float64))
            self._is_interrupted = bool(told[:, 4].any())
            if self._is_interrupted or told[:, 3].any():
                return True
            self._env_steps, self._share = int(told[:, 0].sum()), used / max(told[:, 1].sum(), 1.0)
            self._learns = bool(told[:, 1].any())
            counts, found = told[:, 2].astype(int).tolist(), int(told[:, 5].sum())
        elif rollout.left_out is not None or self._env_steps == 0:
            self._learns = bool(self.used(rollout).any())
        else:
            self._learns = True
        self.num_nonfinite += found
        self.num_timesteps += self._env_steps
        self.new_episodes = workers.episodes(rollout.episodes, counts, rollout.valid.shape[1])
        self.episodes.extend(self.new_episodes)
        if not workers.alone:
            # Where workers had reset frames, what they went by meanwhile was a guess.
            collector.num_timesteps = self.num_timesteps
            world = None if self._surroundings is None else self._surroundings.world
            if world is not None and world.clock != self._clock_at_start + self.num_timesteps:
                world.clock = self._clock_at_start + self.num_timesteps
        return False

    def hyperparameters(self) -> dict[str, Any]:
        """Every hyperparameter of the run by name, as the configuration holds them, with env, num_envs and seed.

        The half-life is that of the optimizer, also where none was stated.
        """
        flat = checkpoint.config_to_dict(self.config)
        if isinstance(self.optimizer, RMSprop):
            stated = self.optimizer.param_groups[0]["half_life"]
            flat["half_life"] = f"{self.optimizer.half_life:.6g} updates" if stated is None else stated
        flat.update({f"policy.{key}": value for key, value in flat.pop("policy").items()})
        flat.update({f"optimizer.{key}": value for key, value in flat.pop("optimizer_kwargs").items()})
        flat.update({f"meta.{key}": value for key, value in (flat.pop("meta") or {}).items()})
        if self.env is not None:
            spec = self.env.spec
            flat["env"] = type(self.env.unwrapped).__name__ if spec is None else spec.id
            flat["num_envs"] = self.env.num_envs
        return {**flat, "seed": self.seed}

    def memory(self) -> str | None:
        """The optimizer's memory in updates and env steps as one sentence, None where it states no half-life."""
        return describe_memory(self.optimizer, self.steps_per_update)

    @property
    def _follows_curriculum(self) -> bool:
        """Whether episodes decide how fast the world changes."""
        world = None if self._surroundings is None else self._surroundings.world
        return world is not None and world.curriculum is not None

    def _tell_timescale(self) -> None:
        """Tell the optimizer how fast the world changes, unless the user has."""
        world = None if self._surroundings is None else self._surroundings.world
        if world is not None and self._tells_timescale and isinstance(self.optimizer, RMSprop):
            self.optimizer.timescale = Timescale(world.timescale, "steps")

    def prepare(self) -> None:
        """Reset the environment, unless the agent lives in it already; `learn` does so itself.

        Raises:
            ValueError: If there is none, or it lacks what the agent needs of it.
        """
        self._start()

    def _make_collector(self, env: VectorEnv) -> Collector:
        return Collector(
            env,
            mask_actions=self.config.mask_actions,
            on_nonfinite=self.config.on_nonfinite,
            on_env_error=self.config.on_env_error,
            env_timeout=self.config.env_timeout,
        )

    def _start(self) -> Collector:
        """The collector, its environment reset if this agent has not stepped it yet."""
        if self._collector is None:
            raise ValueError("this agent has no environment to learn in; load it with env=...")
        if not self._collector.started:
            self._collector.num_timesteps, self._collector.share = self.num_timesteps, self.workers.size
            # Where new episodes are to begin: another seed than the first ones', which it has seen already.
            first_row = self._collector.first_index = self.workers.rank * self._collector.env.num_envs
            self._collector.start(self.seed + self.num_timesteps + first_row)
            if self._saved_place is not None:
                try:
                    self._go_back(self._collector, self._saved_place)
                except EnvError:
                    raise
                except Exception as error:  # the environment's own, when it replays what the file says, included
                    self._collector.stop()
                    said = " ".join(str(error).split())
                    raise ValueError(
                        f"the saved state of the environment cannot be restored: {type(error).__name__}: {said}; "
                        "make the environment as it was then, or load an earlier checkpoint"
                    ) from error
            world = None if self._surroundings is None else self._surroundings.world
            self._clock_at_start = 0 if world is None else world.clock - self.num_timesteps
        return self._collector

    def _go_back(self, collector: Collector, place: dict[str, Any]) -> None:
        """Go on in the episodes in which the agent was saved, or else in new ones of the same world."""
        assert self._surroundings is not None
        if not self.workers.alone:
            # What was saved are one worker's episodes; all begin new ones, when and where the world was.
            if self._surroundings.world is not None:
                self._surroundings.world.clock = place["surroundings"]["clock"]
            return
        episodes = decode(place["episodes"])
        if len(episodes["resetting"]) != collector.env.num_envs:
            if self._surroundings.world is not None:
                self._surroundings.load_state_dict(place["surroundings"], collector.resetting)
        elif self._surroundings.load_state_dict(place["surroundings"], episodes["resetting"]):
            checkpoint.check_episodes(episodes, collector.state_dict())
            collector.load_state_dict(episodes)
        elif self.reward_normalizer is not None:
            self.reward_normalizer.restart()

    def _collect(self, collector: Collector) -> Rollout:
        """The transitions of one update."""
        return collector.collect(self._act, self._enough)

    def _enough(self, num_steps: int, episodes: list[Episode]) -> bool:
        """Whether it is enough for everyone; of A2C's rollouts each worker knows it by itself."""
        return self.enough(num_steps, episodes)

    @property
    def _chance(self) -> Chance:
        """Where actions' chance comes from."""
        return self.generator if self.workers.alone else SharedChance(self.generator, self.workers)

    def _act(self, t: int) -> tuple[Array, Array]:
        """Actions at step ``t`` of a rollout, and the same as the environment takes them."""
        collector = self._collector
        assert collector is not None
        observations = self._seen(collector.observations)
        if self._fused is not None:
            actions = self._fused.act(observations, t, self._chance)
        else:
            if t == 0:
                self._rollout_state = self._state
            with torch.no_grad():
                distribution, self._state = self._distribution(
                    observations, self._state, collector.starts, collector.action_masks
                )
                actions = distribution.sample(self._chance).cpu().numpy()
        return actions, self._to_env(actions)

    def _seen(self, observations: Tree) -> Tree:
        """Observations as the policy sees them."""
        return observations if self.observation_normalizer is None else self.observation_normalizer(observations)

    def _no_memory(self, num_envs: int) -> Tensor | None:
        """What a recurrent policy remembers to begin with, None for one that is not."""
        size = getattr(self.policy, "state_size", 0)
        return torch.zeros(num_envs, size, device=self.device) if size else None

    def _distribution(
        self, observations: Tree, state: Tensor | None, starts: Bools, masks: Bools | None
    ) -> tuple[Distribution, Tensor | None]:
        """The policy's distribution for a batch of observations as it sees them, and what it remembers then."""
        policy: Any = self.policy
        features = tree_map(lambda leaf: torch.as_tensor(leaf, device=self.device), observations)
        if hasattr(policy, "encode"):
            features = policy.encode(features)
        if state is not None:
            features, state = policy.remember(features, state, torch.as_tensor(starts, device=self.device))
        distribution: Distribution = policy.actor(features)
        if masks is not None:
            distribution = distribution.masked(torch.as_tensor(masks, device=self.device))
        return distribution, state

    def _to_env(self, actions: Array) -> Array:
        return to_env(actions, self.action_space, squash=getattr(self.policy, "squashes", False))

    def _meet_changes(self, logger: Logger) -> None:
        """Do to the optimizer what is to be done when the world's regime has changed."""
        world = None if self._surroundings is None else self._surroundings.world
        if world is not None and self._changes.meet(int(np.max(world.regime))):
            if self.config.on_change == "reset" and self.meta is not None:
                self.meta.restart()
            logger.mark(self.num_timesteps, f"regime {self._changes.regime}", self.config.on_change)

    def _update(self, rollout: Rollout, *, with_metrics: bool) -> dict[str, float]:
        """One optimizer step on a rollout, and the normalizers' statistics moved."""
        raw = rollout.observations
        if self.reward_normalizer is not None:
            scaled = self.reward_normalizer(rollout.rewards, rollout.known, rollout.done, self.workers)
            rollout = dataclasses.replace(rollout, rewards=scaled)
        metrics: dict[str, float] = {}
        if self._learns and (self.meta is None or self.meta.learns_from(self._experience(rollout))):
            metrics = self._write_gradients(rollout, with_metrics=with_metrics)
            if self._share == 0.0:
                # The mean over none of its transitions is nan; the others' gradients are everyone's.
                torch._foreach_zero_([param.grad for param in self.policy.parameters() if param.grad is not None])
            self._step(rollout, metrics)
        if self.observation_normalizer is not None:
            self.observation_normalizer.update(raw, rollout.known, self.workers)
        return metrics

    def _step(self, rollout: Rollout, metrics: dict[str, float]) -> None:
        """One optimizer step, the gradients being there."""
        if isinstance(self.optimizer, RMSprop):
            self.optimizer.steps_per_update = self._env_steps
            if self._follows_curriculum:
                self._tell_timescale()
        self._stepper.prepare(self.num_timesteps, self._share)
        try:
            self.num_nonfinite += self._stepper.step(self._share, metrics)
            self._changes.after_update()
            self.num_updates += 1
        except FloatingPointError as error:  # the guard's, before anything is moved
            raise FloatingPointError(self._name_cause(rollout, str(error))) from None
        except BaseException:
            self._is_half_stepped = True
            raise

    def _name_cause(self, rollout: Rollout, said: str) -> str:
        """A sentence about gradients that are not finite: where they come from, as far as that can be seen."""
        said = name_nonfinite_gradient(self.policy) or said
        cause = first_nonfinite(
            self.policy, self._as_seen(rollout), self.used(rollout), self.terms(), self._rollout_state
        )
        where = f"in update {self.num_updates + 1:,}, after {self.num_timesteps:,} env steps, "
        return where + said + (cause and f". There {cause}")

    def _experience(self, rollout: Rollout) -> Experience:
        """A rollout as the policy saw it, to be kept."""
        return Experience.copied(self._as_seen(rollout), self.used(rollout), self.terms(), self._rollout_state)

    def _as_seen(self, rollout: Rollout) -> Rollout:
        if self.observation_normalizer is None:
            return rollout
        seen, finals = self._seen(rollout.observations), self._seen(rollout.final_observations)
        return dataclasses.replace(rollout, observations=seen, final_observations=finals)

    def _write_gradients(self, rollout: Rollout, *, with_metrics: bool) -> dict[str, float]:
        """Have every parameter's gradient of the loss of a rollout whose rewards are scaled."""
        if self._fused is not None:
            assert self._collector is not None
            return self._fused.gradients(
                rollout,
                self.used(rollout),
                self.terms(),
                self._seen(self._collector.observations),
                self._seen(rollout.final_observations),
                self.workers,
                with_metrics=with_metrics,
            )
        self.policy.train()
        loss, metrics = self.loss(self._as_seen(rollout))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.policy.eval()
        return metrics

    def _log(self, logger: Logger, metrics: dict[str, float]) -> None:
        scalars = dict(metrics)
        if self.episodes:
            scalars["rollout/ep_rew_mean"] = float(np.mean([episode.ret for episode in self.episodes]))
            scalars["rollout/ep_len_mean"] = float(np.mean([episode.length for episode in self.episodes]))
        told = [episode.success for episode in self.episodes if episode.success is not None]
        if told:
            scalars["rollout/success_rate"] = fmean(told)
        started, timesteps = self._clock
        scalars["time/fps"] = (self.num_timesteps - timesteps) / max(time.perf_counter() - started, 1e-9)
        scalars["train/n_updates"] = float(self.num_updates)
        if self.config.on_nonfinite != "raise":
            scalars["train/num_nonfinite"] = float(self.num_nonfinite)
        scalars["train/learning_rate"] = float(self.optimizer.param_groups[0]["lr"])
        if self.config.critic_learning_rate is not None:
            scalars["train/critic_learning_rate"] = float(self.optimizer.param_groups[1]["lr"])
        if not isinstance(self._ent_coef, Constant):
            scalars["train/ent_coef"] = self.ent_coef
        if isinstance(self.optimizer, RMSprop):
            diagnostics = self.optimizer.diagnostics()
            scalars.update({f"optim/{name}": value for name, value in diagnostics.items()})
        if self.meta is not None:
            scalars.update(self.meta.scalars)
        assert self._surroundings is not None
        world = self._surroundings.world
        if world is not None:
            scalars.update(world_scalars(world))
        if self.config.on_env_error == "restart":
            assert self._collector is not None
            scalars["env/num_restarts"] = float(self._collector.num_restarts)
        logger.write(self.num_timesteps, scalars)

    # -- using --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(
        self,
        observation: Tree | int,
        state: Array | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
        action_masks: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """The policy's action for one observation or a batch of them.

        The arguments and the pair that is returned are those of Stable-Baselines3, so that its evaluation helper
        takes these agents too.

        Args:
            observation: Of the observation space, or with a batch dimension before it.
            state: What a recurrent policy returned at the step before, shape ``(batch, state_size)``; None at the
                beginning.
            episode_start: Where an observation is its episode's first and the state is to be forgotten, bool,
                shape ``(batch,)``; None is nowhere.
            deterministic: Whether to take the most likely action instead of drawing one.
            action_masks: True where an action is valid, shape ``(batch, entries)``. None reads the
                ``action_mask`` of a Dict observation if the agent has ``mask_actions=True``.

        Returns:
            The action (or a batch of them) as the environment takes it, and the state for the next step, None
            unless the policy is recurrent.

        Raises:
            ValueError: If the observation or the mask has another shape, or a mask leaves no valid action.
        """
        batch, single = self._batch(observation)
        num = len(first_leaf(batch))
        if action_masks is None and self.config.mask_actions and isinstance(batch, dict):
            action_masks = batch.get(ACTION_MASK)
        masks = None
        if action_masks is not None:
            masks = as_action_masks(action_masks, self.action_space, num, "action_masks")
            check_action_masks(masks, self.action_space, "action_masks, row")
        remembered = self._no_memory(num)
        if remembered is not None and state is not None:
            remembered = torch.as_tensor(state, device=self.device)
        starts = np.zeros(num, np.bool_) if episode_start is None else np.asarray(episode_start, dtype=np.bool_)
        distribution, remembered = self._distribution(self._seen(batch), remembered, starts, masks)
        action = distribution.mode() if deterministic else distribution.sample(self.generator)
        actions = self._to_env(action.cpu().numpy())
        return (actions[0] if single else actions), None if remembered is None else remembered.cpu().numpy()

    def _batch(self, observation: Tree | int) -> tuple[Tree, bool]:
        """A batch from a batch or from one observation, and whether it was one.

        Raises:
            ValueError: If the observation has another shape.
        """
        space = self.observation_space
        tree = tree_map(np.asarray, observation)
        part: Any = space
        leaf = tree
        try:
            while isinstance(part, (gym.spaces.Dict, gym.spaces.Tuple)):
                key: Any = next(iter(part.spaces)) if isinstance(part, gym.spaces.Dict) else 0
                part, leaf = part[key], leaf[key]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"observation must be of {space}, got {observation!r}") from error
        shape: tuple[int, ...] = part.shape
        single = leaf.shape == shape
        if not single and leaf.shape[1:] != shape:
            raise ValueError(
                f"observation must have shape {shape} or (batch, *{shape}), got {leaf.shape}; "
                f"the policy was built for {space}"
            )
        return (tree_map(lambda one: one[None], tree) if single else tree), single

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Let actions be drawn inside, such as an evaluation's, of which the training is to know nothing."""
        generator = self.generator.bit_generator.state
        try:
            yield
        finally:
            self.generator.bit_generator.state = generator

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the environment's wrappers whose state neither a save nor an evaluation can restore."""
        return [] if self._surroundings is None else self._surroundings.lost_wrappers

    @contextmanager
    def lent_env(self, clock: int | None = None) -> Iterator[None]:
        """Let an evaluation step the agent's environment inside, and go on in the same episodes afterwards.

        Where the episodes cannot be kept, `learn` begins new ones with the same clock, drift and curriculum.

        Args:
            clock: Clock reading at which a `NonStationaryVector` is frozen, in env steps; None for the present.
        """
        assert self.env is not None
        assert self._surroundings is not None
        world = self._surroundings.world
        is_vector = isinstance(world, NonStationaryVector)
        frozen = world.frozen(clock) if isinstance(world, NonStationaryVector) else nullcontext()
        collector = self._collector
        if collector is None or not collector.started:
            with frozen:
                yield
            return
        place = self._place(collector)
        is_kept = False
        try:
            with frozen:
                yield
            if is_vector:
                is_kept = place["surroundings"]["environment"] is not None
                if is_kept:
                    self._surroundings.load_wrappers(place["surroundings"])
            else:
                self.env.reset()
                is_kept = self._surroundings.load_state_dict(place["surroundings"], collector.resetting)
        finally:
            # The evaluation's collector counts from 0.
            collector.first_index = self.workers.rank * self.env.num_envs
            if not is_kept:
                collector.stop()
                self._saved_place = place

    # -- saving -------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write weights, optimizer, counters and generators to one file.

        After an error or a second Ctrl-C within a rollout, its episodes are left out: who goes on begins new ones.

        Args:
            path: Where to; ``.safetensors`` is added unless the path ends in it.

        Returns:
            The file's path.

        Raises:
            rl_rms.agents.files.UnwritableError: If the file cannot be written; the earlier one stands.
            RuntimeError: If a step of the optimizer was broken off, so that the weights are no longer an agent's.
        """
        if not self.can_be_saved:
            raise RuntimeError(
                "the agent was interrupted within a step of its optimizer, which moved some weights and not "
                "others; load its last checkpoint"
            )
        place = self._saved_place
        if self._surroundings is not None and self._collector is not None and self._collector.started:
            place = self._place(self._collector)
        contents = {
            "algorithm": self.algorithm,
            "config": checkpoint.config_to_dict(self.config),
            "user_policy": self.user_policy,
            "seed": self.seed,
            "observation_space": space_to_dict(self.observation_space),
            "action_space": space_to_dict(self.action_space),
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": json.dumps(self.generator.bit_generator.state),
            "state": self._state,
            "changes": self._changes.state_dict(),
            "meta": None if self.meta is None else self.meta.state_dict(),
            "num_timesteps": self.num_timesteps,
            "num_updates": self.num_updates,
            "num_nonfinite": self.num_nonfinite,
            "normalizers": {
                name: one.state_dict() for name, one in self._normalizers().items() if one is not None
            },
            "episodes": [dataclasses.astuple(episode) for episode in self.episodes],
            # As a tensor, since the header of a file is bounded.
            "place": None if place is None else _to_tensor(json.dumps(place)),
            "callbacks": self._callback_states if self._callbacks is None else self._callbacks.state_dict(),
        }
        return checkpoint.write(Path(path), contents)

    def _place(self, collector: Collector, *, within_episodes: bool = True) -> dict[str, Any]:
        """Where it is in its environment, or only when and where the world was, as plain JSON data."""
        assert self._surroundings is not None
        return {
            "surroundings": self._surroundings.state_dict(collector.observations, within_episodes=within_episodes),
            "episodes": encode(collector.state_dict()),
        }

    @classmethod
    def load(
        cls: type[Self],
        path: str | Path,
        env: EnvLike | None = None,
        *,
        policy: nn.Module | None = None,
        optimizer: OptimizerLike | None = None,
        device: str | None = None,
    ) -> Self:
        """Read an agent that `save` wrote. No code from the file is run.

        Training goes on as if it had never been stopped: with the saved weights, optimizer, counters and action
        generator, and in the environment with its generators, drift, curriculum and episodes in progress. Where an
        environment cannot be brought back into its episodes, which saving or loading it then warns of, new ones
        begin, with drift and curriculum where they were; see `rl_rms.envs.snapshots`.

        Args:
            path: The file.
            env: Environment to go on in; None for an agent that only predicts.
            policy: The module, where the saved agent had one that the user built.
            optimizer: The optimizer's class, where it is not one of torch's or this library's.
            device: Another device than the saved one.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is no agent of this kind, or the environment's spaces differ.
        """
        contents = checkpoint.read(Path(path), cls.algorithm)
        with checkpoint.damage_named(f"{path}, config,"):
            config = checkpoint.config_from_dict(cls.config_class, contents["config"], device=device)
        if contents["user_policy"] and policy is None:
            raise ValueError(f"{path} was saved with a policy of the user's own; pass it as policy=...")
        if optimizer is None:
            checkpoint.check_trusted(config.optimizer)
        with checkpoint.damage_named(f"{path}, observation_space or action_space,"):
            spaces = {name: space_from_dict(contents[name]) for name in ("observation_space", "action_space")}
        agent = cls.from_config(config, env, seed=contents["seed"], policy=policy, optimizer=optimizer, **spaces)
        for name, space in spaces.items():
            if getattr(agent, name) != space:
                raise ValueError(
                    f"env has {name} {getattr(agent, name)}, but {path} was trained on {space}; give such a one"
                )
        with checkpoint.damage_named(str(path)):
            agent._restore(contents)
        return agent

    def _restore(self, contents: dict[str, Any]) -> None:
        """Take the state of a checkpoint whose fields are checked."""
        checkpoint.check_like("policy", contents["policy"], dict(self.policy.state_dict()))
        normalizers = {name: one for name, one in self._normalizers().items() if one is not None}
        for name, one in normalizers.items():
            own, saved = one.state_dict(), contents["normalizers"][name]
            # The number of sub-environments may be another one.
            checkpoint.check_like(name, {**saved, "returns": []}, {**own, "returns": []})
        self.generator.bit_generator.state = json.loads(contents["generator"])
        checkpoint.check_optimizer(contents["optimizer"], self.optimizer)
        self.optimizer.load_state_dict(contents["optimizer"])
        self._changes.load_state_dict(contents["changes"])
        if self.meta is not None:
            self.meta.load_state_dict(contents["meta"])
        for name, one in normalizers.items():
            one.load_state_dict(contents["normalizers"][name])
        if self._state is not None and self._state.shape == contents["state"].shape:
            self._state = contents["state"].to(self.device)
        if contents["place"] is not None:
            place = json.loads(contents["place"].numpy().tobytes())
            checkpoint.check_place(place)
            self._saved_place = place
        self.num_timesteps = contents["num_timesteps"]
        self.num_updates = contents["num_updates"]
        self.num_nonfinite = contents["num_nonfinite"]
        self.episodes.extend(Episode(*episode) for episode in contents["episodes"])
        self._callback_states = contents["callbacks"]
        # A policy of the user's own changes last, when nothing can fail.
        self.policy.load_state_dict(contents["policy"])

    def _normalizers(self) -> dict[str, ObservationNormalizer | RewardNormalizer | None]:
        return {"observation": self.observation_normalizer, "reward": self.reward_normalizer}


def _to_tensor(text: str) -> Tensor:
    """A text as bytes, shape ``(length,)``."""
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def _check_shared(agent: OnPolicyAgent, workers: Workers, where: Where) -> None:
    """Refuse what several workers cannot train together.

    Raises:
        ValueError: If they cannot.
    """
    if where not in get_args(Where):
        raise ValueError(f"where must be one of {', '.join(get_args(Where))}, got {where!r}")
    if agent._collector is not None and agent._collector.started:
        raise ValueError("an agent joins other workers before it learns or prepares; call join first")
    if workers.alone:
        return
    if agent.config.meta is not None:
        raise ValueError("meta goes by one process's own rollouts; leave it out, or train in one process")
    if agent.config.policy.norm == "batch":
        raise ValueError(
            'norm="batch" goes by the batch of one process; take norm="layer", or train in one process'
        )
    world = None if agent._surroundings is None else agent._surroundings.world
    if isinstance(world, NonStationaryVector):
        if world.part != (workers.rank, workers.size):
            raise ValueError(
                f"worker {workers.rank} of {workers.size} needs that part of the world, got part={world.part}; "
                "make it with part=(rank, size)"
            )
        if world.curriculum is not None or find_adversaries(world.schedules):
            raise ValueError(
                "curricula and adversaries go by all episodes, of which a worker sees its own; leave them out, or "
                "train in one process"
            )


@functools.cache
def _blas() -> ThreadpoolController:
    """What sets numpy's threads; finding the libraries takes longer than an update."""
    return ThreadpoolController()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have torch work in one thread: orthogonal weights differ in their last bits by how many there are."""
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(number)


def policy_config(policy: PolicyConfig | nn.Module | None) -> PolicyConfig:
    """The configuration part of a constructor's ``policy``."""
    return policy if isinstance(policy, PolicyConfig) else PolicyConfig()


def policy_module(policy: PolicyConfig | nn.Module | None) -> nn.Module | None:
    """The module part of a constructor's ``policy``."""
    return policy if isinstance(policy, nn.Module) else None


def _device(name: str) -> torch.device:
    """The torch device of a name.

    Raises:
        ValueError: If there is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f'device {name!r} is not available here ({said}); give device="cpu", "auto", or a torch device of '
            "this machine"
        ) from error
    return device


def _checked(policy: nn.Module) -> nn.Module:
    """A user's module.

    Raises:
        ValueError: If it cannot be a policy.
    """
    missing = [name for name in ("actor", "critic") if not callable(getattr(policy, name, None))]
    if missing:
        raise ValueError(
            f"policy must be a torch module with the methods actor(observations), which gives a distribution, and "
            f"critic(observations), which gives values; {type(policy).__name__} has no {' and no '.join(missing)}"
        )
    return policy
