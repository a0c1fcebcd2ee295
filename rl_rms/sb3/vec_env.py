"""Environments that change for Stable-Baselines3: its VecEnv interface around `rl_rms.envs.NonStationaryVector`.

`make_vec_env` makes a vector of environments that share one clock; a single `rl_rms.envs.NonStationary` needs
nothing of this and can be given to an algorithm as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from rl_rms.envs.config import Sharing
from rl_rms.envs.curricula import Curriculum
from rl_rms.envs.keys import REGIME
from rl_rms.envs.make import make_vec
from rl_rms.envs.schedules import Schedule
from rl_rms.envs.vector import NonStationaryVector

Info = dict[str, Any]
# Attributes of each sub-environment, and attributes of all of them together.
_OF_EACH = ("parameters", "regime", "timescale", "render_mode")
_OF_ALL = ("clock", "schedules", "curriculum", "state_dict", "load_state_dict", "oracle", "frozen")


class NonStationaryVecEnv(VecEnv):
    """A `rl_rms.envs.NonStationaryVector` as Stable-Baselines3 takes it.

    Args:
        env: The vector environment. Its sub-environments are reset in the step that ends an episode (SAME_STEP),
            as Stable-Baselines3 expects.

    Attributes:
        env: As given; its clock, parameters, ``state_dict()`` and ``frozen()`` are at hand there.

    Raises:
        ValueError: If the sub-environments are reset at another time.

    Examples:
        >>> from stable_baselines3 import A2C
        >>> from rl_rms.envs.schedules import Sinusoid
        >>> env = make_vec_env("CartPole-v1", 4, {"gravity": Sinusoid(mean=9.8, amplitude=4, period=200)}, seed=0)
        >>> model = A2C("MlpPolicy", env, seed=0).learn(40)
        >>> env.get_attr("clock")[0]
        40
    """

    def __init__(self, env: NonStationaryVector) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"env must reset in the step that ends an episode, as Stable-Baselines3 expects, got {mode}; "
                'make it with rl_rms.sb3.make_vec_env, or with make_vec(..., vectorization_mode="sync", '
                'vector_kwargs={"autoreset_mode": "SameStep"})'
            )
        self.env = env
        self._listed = DictInfoToList(env)
        self._actions: Any = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.metadata = env.metadata

    def reset(self) -> VecEnvObs:
        """Begin episodes, with the seeds and options that were set since the last time.

        Raises:
            ValueError: If the sub-environments were given different options.
        """
        if any(options != self._options[0] for options in self._options):
            raise ValueError(f"all sub-environments must have the same options, got {self._options!r}")
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        observations: VecEnvObs
        observations, self.reset_infos = self._listed.reset(seed=seeds, options=self._options[0] or None)  # type: ignore[arg-type]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: Any) -> None:
        """Take the actions of the next step, shape ``(num_envs, *action)``."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Make the step.

        Returns:
            Observations, rewards, whether episodes ended, and an info for each sub-environment; that of an episode
            that ended has ``terminal_observation``, and ``TimeLimit.truncated`` says whether it was cut off.
        """
        observations, rewards, terminated, truncated, infos = self._listed.step(self._actions)
        done = np.logical_or(terminated, truncated)
        told: list[Info] = []
        for row in range(self.num_envs):
            info: Info = dict(infos[row])
            if done[row]:
                # What else stands there is of the next episode's reset.
                last = {**info.pop("final_info"), "terminal_observation": info.pop("final_obs")}
                self.reset_infos[row] = info
                info = {**last, REGIME: info[REGIME]}
            info["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
            told.append(info)
        return observations, np.asarray(rewards, dtype=np.float32), done, told

    def close(self) -> None:
        """Close all sub-environments."""
        self.env.close()

    def get_images(self) -> Sequence[Any]:
        """A picture of each sub-environment, where they render any."""
        return self.env.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of each sub-environment.

        ``parameters``, ``regime`` and ``timescale`` are those that it sees, the last in its own env steps.
        ``clock``, ``schedules``, ``curriculum`` and the methods are those of the vector environment.
        """
        each = self._attribute(attr_name)
        return [each[row] for row in self._get_indices(indices)]

    def has_attr(self, attr_name: str) -> bool:
        """Whether each sub-environment has an attribute that `get_attr` gives."""
        if attr_name in _OF_EACH or attr_name in _OF_ALL:
            return True
        # Not by trying: workers end when they are asked for what they do not have.
        return all(self.env.unwrapped.call("has_wrapper_attr", attr_name))  # type: ignore[attr-defined]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of some sub-environments, where they have it and not where it would hide it.

        Raises:
            ValueError: If a schedule or the curriculum sets it.
        """
        if attr_name in self.env.parameters:
            raise ValueError(
                f"{attr_name!r} is set by changes or curriculum, and a value of yours would not last; leave it "
                "out there"
            )
        rows = set(self._get_indices(indices))
        values = [value] * self.num_envs
        if len(rows) < self.num_envs:
            now = self._attribute(attr_name)
            values = [value if row in rows else now[row] for row in range(self.num_envs)]
        self.env.unwrapped.set_attr(attr_name, values)  # type: ignore[attr-defined]

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of some sub-environments.

        Raises:
            ValueError: If they are in workers and not all of them are to be called.
        """
        rows = list(self._get_indices(indices))
        base = self.env.unwrapped
        if isinstance(base, SyncVectorEnv):
            return [base.envs[row].get_wrapper_attr(method_name)(*method_args, **method_kwargs) for row in rows]
        if len(rows) < self.num_envs:
            raise ValueError(f'workers are called all together, got indices={indices!r}; use mode="sync"')
        return list(base.call(method_name, *method_args, **method_kwargs))  # type: ignore[attr-defined]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether sub-environments have a wrapper; of those in workers it is not known, and said to be false."""
        base = self.env.unwrapped
        rows = self._get_indices(indices)
        return [isinstance(base, SyncVectorEnv) and is_wrapped(base.envs[row], wrapper_class) for row in rows]

    def _attribute(self, name: str) -> list[Any]:
        """An attribute of every sub-environment."""
        everyone = range(self.num_envs)
        if name == "parameters":
            each = {target: np.broadcast_to(value, self.num_envs) for target, value in self.env.parameters.items()}
            return [{target: float(values[row]) for target, values in each.items()} for row in everyone]
        if name == "regime":
            return [int(one) for one in np.broadcast_to(self.env.regime, self.num_envs)]
        if name == "timescale":
            return [self.env.timescale / self.num_envs] * self.num_envs
        if name in _OF_ALL:
            return [getattr(self.env, name)] * self.num_envs
        if name == "render_mode":
            return [self.env.render_mode] * self.num_envs
        return list(self.env.unwrapped.get_attr(name))  # type: ignore[attr-defined]


class ChangeCallback(BaseCallback):
    """Logs what changes, at the end of every rollout: ``env/<target>``, ``env/regime``, ``env/timescale``.

    A target is the mean over the environments, the regime the latest of any, the time scale that of all together
    in env steps. What a curriculum tells of itself is under ``curriculum/``. The environments are a
    `NonStationaryVecEnv`, or `rl_rms.envs.NonStationary` each.

    Raises:
        ValueError: When training starts, if they are neither.
    """

    def _on_training_start(self) -> None:
        # Not by trying: a worker of SubprocVecEnv that is asked for what it does not have ends.
        if not self.training_env.has_attr("parameters"):
            raise ValueError(
                "ChangeCallback needs environments that change: rl_rms.envs.NonStationary, or those of "
                "rl_rms.sb3.make_vec_env"
            )

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        env = self.training_env
        parameters: list[Mapping[str, float]] = env.get_attr("parameters")
        for target in parameters[0]:
            self.logger.record(f"env/{target}", float(np.mean([one[target] for one in parameters])))
        self.logger.record("env/regime", float(max(env.get_attr("regime"))))
        timescale = min(env.get_attr("timescale")) * env.num_envs
        if np.isfinite(timescale):
            self.logger.record("env/timescale", timescale)
        curriculum = env.get_attr("curriculum", indices=0)[0]
        if curriculum is not None:
            for name, value in curriculum.log().items():
                self.logger.record(f"curriculum/{name}", value)


def make_vec_env(
    id: str,
    num_envs: int = 1,
    changes: Mapping[str, Schedule | float] | None = None,
    *,
    curriculum: Curriculum | None = None,
    sharing: Sharing = "shared",
    observe: str | Sequence[str] | None = None,
    seed: int | None = None,
    mode: str = "sync",
    wrappers: Sequence[Callable[[gym.Env[Any, Any]], gym.Wrapper[Any, Any, Any, Any]]] = (),
    **kwargs: Any,
) -> VecMonitor:
    """Make environments that change for Stable-Baselines3, as its own ``make_vec_env`` makes ones that do not.

    Args:
        id: See `rl_rms.envs.make_vec`.
        num_envs: Number of environments.
        changes: See `rl_rms.envs.NonStationaryVector`.
        curriculum: See there; with ``mode="sync"``.
        sharing: See there.
        observe: See there.
        seed: Seed of the drift; the algorithm's seeds the rest.
        mode: ``"sync"`` for one after the other, ``"async"`` for processes of their own.
        wrappers: Put around each environment.
        **kwargs: Arguments of the environment.

    Returns:
        A `NonStationaryVecEnv` in Stable-Baselines3's VecMonitor, which counts episodes.

    Raises:
        ValueError: If an argument is none of these; see `rl_rms.envs.NonStationaryVector`.
    """
    if mode not in ("sync", "async"):
        raise ValueError(f"mode must be sync or async, got {mode!r}")
    env = make_vec(
        id,
        num_envs,
        changes,
        curriculum=curriculum,
        sharing=sharing,
        observe=observe,
        seed=seed,
        vectorization_mode=mode,
        vector_kwargs={"autoreset_mode": "SameStep"},
        wrappers=wrappers,
        **kwargs,
    )
    return VecMonitor(NonStationaryVecEnv(env))
