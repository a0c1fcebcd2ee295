"""The base class of the agents, which connects policy, optimizer, actor, learner and environment."""

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import gymnasium as gym
import numpy.typing as npt
from torch import nn

from rl_rms.agents import checkpoint
from rl_rms.agents.acting import Actor
from rl_rms.agents.adaptation import AdaptationCallback
from rl_rms.agents.averaging import Sync
from rl_rms.agents.backends import choose_backend, choose_device
from rl_rms.agents.callbacks import CallbackLike, CallbackList
from rl_rms.agents.config import AgentConfig
from rl_rms.agents.config_file import write_config
from rl_rms.agents.config_parts import PolicyConfig
from rl_rms.agents.constructor import document, make_config, named_arguments
from rl_rms.agents.description import describe_half_lives, flat_hyperparameters
from rl_rms.agents.env_session import EnvSession
from rl_rms.agents.env_state import EnvLike, as_vector_env
from rl_rms.agents.interruption import first_waits
from rl_rms.agents.learner import Learner
from rl_rms.agents.logger import Logger
from rl_rms.agents.normalize import make_observation_normalizer
from rl_rms.agents.optimizers import OptimizerLike, make_optimizer
from rl_rms.agents.policies import make_policy
from rl_rms.agents.rollout import Episode
from rl_rms.agents.spaces import checked_spaces, space_to_dict
from rl_rms.agents.trainer import Trainer, training_callbacks
from rl_rms.agents.training_state import TrainingState
from rl_rms.agents.trees import Tree
from rl_rms.agents.workers import Workers
from rl_rms.envs.checks import check_int, check_one_of

Array = npt.NDArray[Any]
Self = TypeVar("Self", bound="Agent")


class Agent:
    """An agent that learns from rollouts of its current policy. `A2C`, `PPO` and `Reinforce` are subclasses.

    Args:
        env: A Gymnasium id, environment or vector environment; None for an agent that only predicts. An agent
            without an environment needs ``observation_space`` and ``action_space``.
        config: All hyperparameters in one object; None takes the hyperparameters by name.
        policy: A `PolicyConfig`, or a module with `ActorCriticPolicy`'s interface; None uses the policy of
            ``config``, or the default.
        optimizer: A ``torch.optim.Optimizer`` class or its import path; None uses the configuration's optimizer.
        seed: Seed of initial weights, actions, minibatches and environment; None draws a random seed.
        observation_space: Observation space of one sub-environment; needed only without ``env``.
        action_space: Action space of one sub-environment; needed only without ``env``.
        **hyperparameters: The fields of the subclass's configuration.

    Attributes:
        policy: The torch module.
        optimizer: The torch optimizer.
        generator: The random generator of the actions and the minibatches.
        observation_normalizer: Standardizes the observations; None leaves them unchanged.
        reward_normalizer: Scales the rewards; None leaves them unchanged.
        meta: Adapts the optimizer's hyperparameters; None leaves them unchanged.
        workers: The processes that train the agent together, see `join`.
        episodes: The last 100 finished episodes.
        learner: Takes the optimizer steps.
        actor: Chooses the actions.
        session: The environment and the episodes in progress.
        training: The counters of the training.

    Raises:
        TypeError: If an argument has an unknown name or the wrong type, or ``config`` belongs to another
            algorithm.
        ValueError: If the value of an argument is not allowed, or does not fit the other arguments.
    """

    algorithm: ClassVar[str]
    config_class: ClassVar[type[AgentConfig]]
    learner_class: ClassVar[type[Learner]]

    def __init_subclass__(cls) -> None:
        """Show all arguments in the subclass's signature and docstring."""
        document(cls, Agent.__doc__ or "")

    @named_arguments
    def __init__(
        self,
        env: EnvLike | None,
        *,
        config: AgentConfig | None = None,
        policy: PolicyConfig | nn.Module | None = None,
        optimizer: OptimizerLike | None = None,
        seed: int | None = None,
        observation_space: gym.Space[Any] | None = None,
        action_space: gym.Space[Any] | None = None,
        **hyperparameters: Any,
    ) -> None:
        self.config = make_config(self.config_class, config, hyperparameters, policy, optimizer)
        self.seed = secrets.randbelow(2**31) if seed is None else check_int("seed", seed, least=0)
        self.env = None if env is None else as_vector_env(env, restarts=self.config.on_env_error == "restart")
        self.observation_space, self.action_space = checked_spaces(
            self.env, observation_space, action_space, mask_actions=self.config.mask_actions
        )
        self._has_user_policy = isinstance(policy, nn.Module)
        self.policy = make_policy(
            policy if isinstance(policy, nn.Module) else None,
            self.observation_space,
            self.action_space,
            self.config.policy,
            seed=self.seed,
        )
        self.device = choose_device(self.policy, self.config)
        self.policy.to(self.device)
        self.optimizer = make_optimizer(self.policy, self.config, optimizer)
        self.observation_normalizer = make_observation_normalizer(
            self.observation_space, self.config.normalize_observation
        )
        num_envs = None if self.env is None else self.env.num_envs
        self.actor = Actor(
            self.policy,
            self.observation_space,
            self.action_space,
            num_envs=num_envs,
            normalizer=self.observation_normalizer,
            mask_actions=self.config.mask_actions,
            seed=self.seed,
            device=self.device,
        )
        self.generator = self.actor.generator
        self.learner = self.learner_class(
            self.policy,
            self.optimizer,
            self.config,
            num_envs=num_envs,
            observation_normalizer=self.observation_normalizer,
            generator=self.generator,
        )
        if self.learner.transitions_per_update == 1 and self.config.policy.norm == "batch":
            raise ValueError(
                'norm="batch" needs more than one transition in an update; use more sub-environments, n_steps or '
                "batch_size"
            )
        self.reward_normalizer, self.meta = self.learner.reward_normalizer, self.learner.meta
        self.workers = self.learner.workers
        self.session = EnvSession(self.env, self.config, self.seed)
        if self.session.changing is not None:
            self.learner.set_timescale(self.session.changing.timescale)
        self.training = TrainingState()
        self.episodes = self.training.episodes
        # The callbacks of the current or last training run, and the saved states that the next `learn` restores.
        self._callbacks: CallbackList | None = None
        self._callback_states: dict[str, Any] = {}

    @property
    def num_timesteps(self) -> int:
        """Env steps so far, all sub-environments together."""
        return self.training.num_timesteps

    @property
    def num_updates(self) -> int:
        """Optimizer steps so far."""
        return self.learner.num_updates

    @property
    def num_nonfinite(self) -> int:
        """Number of non-finite rewards and observations, and of updates with non-finite gradients."""
        return self.training.num_nonfinite

    @property
    def new_episodes(self) -> list[Episode]:
        """The episodes that finished in the last rollout."""
        return self.training.new_episodes

    def describe_half_life(self) -> str | None:
        """Describe the finite half-lives of optimizer and normalizers; None without such half-lives."""
        return describe_half_lives(self.config, self.optimizer, self.learner.steps_per_update)

    def join(self: Self, workers: Workers, sync: Sync = "global") -> Self:
        """Join the other workers: processes that train the same agent, each in its own sub-environments.

        Every worker makes the agent with the same arguments and seed, and with an equal share of the
        sub-environments (see ``shard`` of `rl_rms.envs.NonStationaryVector`). Every worker then calls `join`, and
        `learn` with the same ``total_timesteps``, the env steps of all workers together. After every update all
        workers have the same weights. With ``sync="global"``, the weights equal the weights of one process
        with all sub-environments, up to rounding. Episodes, counts and metrics cover all workers. Each worker has
        its own callbacks and logs.

        Args:
            workers: The processes.
            sync: With ``"global"``, the optimizer takes its step with the clipped mean of the workers' gradients.
                With ``"local"``, each worker's optimizer takes a step with the worker's own clipped gradient, and
                the mean of these steps changes the weights.

        Returns:
            The agent itself.

        Raises:
            ValueError: If the agent cannot train in several processes, if episodes are in progress, or if ``sync``
                is unknown.
        """
        check_one_of("sync", sync, get_args(Sync))
        self.session.check_workers(workers)
        self.learner.join(workers, sync)
        self.actor.join(workers)
        self.workers = self.session.workers = workers
        return self

    def prepare(self) -> None:
        """Reset the environment and restore a loaded state, unless episodes are in progress.

        The call is optional, because `learn` resets the environment too.

        Raises:
            ValueError: If there is no environment, or the agent cannot train in the environment.
        """
        self.make_trainer().start()

    def learn(
        self: Self,
        total_timesteps: int,
        callback: CallbackLike | Iterable[CallbackLike] | None = None,
        progress_bar: bool = False,
        log_dir: str | Path | None = None,
        log_interval: int | None = None,
    ) -> Self:
        """Train for at least ``total_timesteps`` more env steps.

        The first Ctrl-C raises KeyboardInterrupt after the updates on the rollout in progress. An agent that is
        saved after the updates can resume its training bit-identically. A second Ctrl-C raises KeyboardInterrupt
        at once. A rollout or an evaluation that waits for episodes to end can raise KeyboardInterrupt earlier, at
        every 1,000th vector step. Several workers (see `join`) raise KeyboardInterrupt at the end of a rollout,
        without updates on this rollout. Call `interrupt`, for example in the handler of another signal, to stop
        the training as the first Ctrl-C does.

        Args:
            total_timesteps: Env steps of all sub-environments together. The training ends after the rollout that
                reaches this number.
            callback: A `Callback`, a function, or several callbacks and functions; None for no callback. `learn`
                calls a function with the agent after the updates on every rollout. A function that returns False
                stops the training.
            progress_bar: Whether to show progress: a live view in a terminal, plain lines elsewhere.
            log_dir: Folder for TensorBoard events, ``metrics.csv`` and ``config.yaml``; None writes nothing.
                ``rl-rms report`` and ``rl-rms plot`` read this folder.
            log_interval: Rollouts between two entries of the log. With None, PPO logs every rollout. The other
                algorithms log at each 1 % of the env steps that the agent will have taken at the end, and at least
                every 100 rollouts.

        Returns:
            The agent itself.

        Raises:
            ValueError: If ``total_timesteps`` or ``log_interval`` is not a whole number >= 1, or the agent has no
                environment or cannot train in it.
            FloatingPointError: If a reward, an observation or a gradient is not finite, and ``on_nonfinite`` is
                ``"raise"``.
            EnvError: If a sub-environment failed and was not restarted. A file saved after an EnvError has no
                episodes in progress.
            KeyboardInterrupt: If the training was interrupted.
            rl_rms.agents.files.UnwritableError: If ``log_dir`` cannot be written to at the beginning.
            rl_rms.agents.files.TakenError: If another process logs into ``log_dir``.
        """
        total_timesteps = check_int("total_timesteps", total_timesteps, least=1)
        if log_interval is not None:
            log_interval = check_int("log_interval", log_interval, least=1)
        trainer = self.make_trainer()
        trainer.start()
        self.training.target_timesteps = self.num_timesteps + total_timesteps
        parts = training_callbacks(self, callback, logs=log_dir is not None, progress_bar=progress_bar)
        callbacks = CallbackList(parts)
        if self._callbacks is not None:  # the regime in which the last training run ended continues
            name, states = AdaptationCallback.__name__, self._callbacks.state_dict()
            self._callback_states = {name: states.get(name, [])}
        callbacks.load_state_dict(self._callback_states)
        self._callbacks, self._callback_states = callbacks, {}
        folder = None if log_dir is None else Path(log_dir)
        threads, interrupt = trainer.backend.limit_threads(), first_waits(self.interrupt)
        with threads, Logger(folder, self.num_timesteps) as logger, interrupt:
            if folder is not None:
                write_config(folder, self)
                logger.hyperparameters(flat_hyperparameters(self), callbacks.metrics())
            callbacks.on_training_start(self, logger)
            try:
                trainer.train(self, callbacks, logger, log_interval)
            except BaseException:
                # A Ctrl-C that ended this training run must not end the next one.
                self.training.is_interrupted = False
                raise
            finally:
                callbacks.on_training_end(self, logger)
        self.training.raise_if_interrupted()
        return self

    def interrupt(self) -> None:
        """Make `learn` raise KeyboardInterrupt in all workers.

        A single process raises KeyboardInterrupt after the updates on the rollout in progress. Several workers
        raise it at the end of the rollout, without the updates. Signal handlers may call this method.
        """
        self.training.is_interrupted = True

    def predict(
        self,
        observation: Tree | int,
        state: Array | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
        action_masks: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Compute the policy's action for one observation or a batch of observations.

        Arguments and results have the order of Stable-Baselines3, whose ``evaluate_policy`` accepts these agents.

        Args:
            observation: An observation, or a batch of observations.
            state: The recurrent state from the previous call, shape ``(batch, state_size)``; None in the first
                call.
            episode_start: Whether each observation is the first of its episode, shape ``(batch,)``. A first
                observation resets the state. None means that no observation is the first of its episode.
            deterministic: Whether to take the most likely action instead of sampling.
            action_masks: True where an action is valid, shape ``(batch, entries)``. None reads the
                ``action_mask`` of a Dict observation if the agent has ``mask_actions=True``.

        Returns:
            The action or the batch of actions for the environment, and the recurrent state for the next call. The
            state is None unless the policy is recurrent.

        Raises:
            ValueError: If the observation or the mask has a wrong shape, or a mask allows no action.
        """
        return self.actor.predict(observation, state, episode_start, deterministic, action_masks)

    def save(self, path: str | Path) -> Path:
        """Write one file with the weights and all other state that `load` restores.

        After an error or a KeyboardInterrupt within a rollout, the file does not contain the episodes in progress.

        Args:
            path: The file; ``.safetensors`` is added unless the path already ends in this suffix.

        Returns:
            The file's path.

        Raises:
            rl_rms.agents.files.UnwritableError: If the file cannot be written. An earlier file is unchanged.
            RuntimeError: If an optimizer step was interrupted, so that only some weights may have changed.
        """
        fields = {
            "algorithm": self.algorithm,
            "config": self.config.to_dict(),
            "user_policy": self._has_user_policy,
            "seed": self.seed,
            "observation_space": space_to_dict(self.observation_space),
            "action_space": space_to_dict(self.action_space),
            "callbacks": self._callback_states if self._callbacks is None else self._callbacks.state_dict(),
        }
        return checkpoint.save(Path(path), fields, self._parts())

    @classmethod
    def load(
        cls: type[Self],
        path: str | Path,
        env: EnvLike | None = None,
        *,
        policy: PolicyConfig | nn.Module | None = None,
        optimizer: OptimizerLike | None = None,
        device: str | None = None,
    ) -> Self:
        """Read an agent that `save` wrote. No code from the file is run.

        A resumed training run is bit-identical to an uninterrupted one: weights, optimizer, normalizers, counters,
        random generators, drift, curriculum and episodes in progress are restored. If an environment cannot
        restore its episodes, `save` or `learn` warns, and new episodes begin with the saved drift and curriculum;
        see `rl_rms.envs.snapshots`.

        Args:
            path: The file.
            env: Environment to train in; None for an agent that only predicts.
            policy: The policy module; needed if the saved agent had your own module. A `PolicyConfig` must equal
                the saved configuration. Passing a `PolicyConfig` allows `load` to import the user's classes that
                the file names.
            optimizer: The optimizer's class; needed unless the class is from ``torch.optim`` or this library.
            device: A torch device; None uses the saved hyperparameter ``device``.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file is damaged or not an agent of this class, if a needed ``policy`` or
                ``optimizer`` is missing, or if the environment's spaces differ from the saved spaces.
        """
        contents = checkpoint.read(Path(path), cls.algorithm)
        arguments = checkpoint.constructor_arguments(
            contents, path, cls.config_class, policy=policy, optimizer=optimizer, device=device
        )
        agent = cls(env, **arguments)
        checkpoint.check_spaces(path, contents, agent.observation_space, agent.action_space)
        checkpoint.restore(path, contents, agent._parts())
        agent._callback_states = contents["callbacks"]
        return agent

    def _parts(self) -> list[checkpoint.Part]:
        """The parts whose states are saved. The learner must be the last part, see `checkpoint.restore`."""
        return [self.actor, self.session, self.training, self.learner]

    def make_trainer(self) -> Trainer:
        """Make a trainer for one call of `learn`.

        Each call chooses the backend again, because the user may have frozen parameters or hooked modules.
        """
        backend = choose_backend(self.policy, self.device, self.config)
        return Trainer(self.session, self.actor, self.learner, self.training, backend)
