"""Environments that change for Stable-Baselines3: a VecEnv around `rl_rms.envs.NonStationaryVector`.

`make_vec_env` makes a vector environment, whose sub-environments share one clock by default. A single
`rl_rms.envs.NonStationary` needs no conversion, because Stable-Baselines3's algorithms accept it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from rl_rms.envs.keys import REGIME
from rl_rms.envs.make import make_vec
from rl_rms.envs.resilient_make import Makeable
from rl_rms.envs.schedules import Schedule
from rl_rms.envs.vector import NonStationaryVector

Info = dict[str, Any]
# Names of attributes of each sub-environment, and names of attributes of the vector environment.
_OF_EACH = ("parameters", "regime", "timescale")
_OF_ALL = ("clock", "schedules", "curriculum", "state_dict", "load_state_dict", "oracle", "frozen", "render_mode")


class NonStationaryVecEnv(VecEnv):
    """A `rl_rms.envs.NonStationaryVector` with Stable-Baselines3's VecEnv interface.

    Args:
        env: The vector environment. Its sub-environments are reset in the step that ends an episode (SAME_STEP),
            as Stable-Baselines3 expects.

    Attributes:
        env: The vector environment, with clock, parameters, ``state_dict()`` and ``frozen()``.

    Raises:
        ValueError: If the vector environment's autoreset mode is not SAME_STEP.

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
        """Begin episodes, with the seeds and options that were set since the last reset.

        Raises:
            ValueError: If the sub-environments have different options.
        """
        if any(options != self._options[0] for options in self._options):
            raise ValueError(
                f"all sub-environments must have the same options, got {self._options!r}; call set_options with "
                "one dictionary"
            )
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        observations: VecEnvObs
        observations, self.reset_infos = self._listed.reset(seed=seeds, options=self._options[0] or None)  # type: ignore[arg-type]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: Any) -> None:
        """Set the actions of the next step, shape ``(num_envs, *action)``."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step the environments with the actions of `step_async`.

        Returns:
            Observations, rewards, dones, and an info for each sub-environment. At an episode's end, the info has
            ``terminal_observation``. ``TimeLimit.truncated`` is True if the episode was truncated and not
            terminated.
        """
        observations, rewards, terminated, truncated, infos = self._listed.step(self._actions)
        done = np.logical_or(terminated, truncated)
        listed: list[Info] = []
        for row in range(self.num_envs):
            info: Info = dict(infos[row])
            if done[row]:
                # The other entries of the info belong to the next episode.
                last = {**info.pop("final_info"), "terminal_observation": info.pop("final_obs")}
                self.reset_infos[row] = info
                info = {**last, REGIME: info[REGIME]}
            info["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
            listed.append(info)
        return observations, np.asarray(rewards, dtype=np.float32), done, listed

    def close(self) -> None:
        """Close all sub-environments."""
        self.env.close()

    def get_images(self) -> Sequence[Any]:
        """One image per sub-environment, or one None per sub-environment if they do not render."""
        return self.env.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of each sub-environment.

        ``timescale`` is in the sub-environment's env steps. ``clock``, ``schedules``, ``curriculum``, ``oracle``,
        ``frozen``, ``state_dict`` and ``load_state_dict`` are equal for all sub-environments, because they belong
        to the vector environment.
        """
        values = self._attribute(attr_name)
        return [values[row] for row in self._get_indices(indices)]

    def has_attr(self, attr_name: str) -> bool:
        """Whether `get_attr` can read an attribute of each sub-environment."""
        if attr_name in _OF_EACH or attr_name in _OF_ALL:
            return True
        # `get_attr` cannot be tried, because a worker ends when a missing attribute is read.
        return all(self.env.unwrapped.call("has_wrapper_attr", attr_name))  # type: ignore[attr-defined]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of some sub-environments, in the wrapper or environment that has the attribute.

        Raises:
            ValueError: If a schedule or the curriculum sets the attribute, or if the attribute, such as ``clock``,
                belongs to the vector environment.
        """
        if attr_name in (*_OF_EACH, *_OF_ALL):
            raise ValueError(
                f"{attr_name!r} must not be set, because it belongs to the vector environment; to set the clock, "
                'call set_options({"rl_rms.clock": ...}) before reset'
            )
        if attr_name in self.env.parameters:
            raise ValueError(
                f"{attr_name!r} must not be in changes or curriculum, which would overwrite the new value; remove "
                "it there"
            )
        rows = set(self._get_indices(indices))
        values = [value] * self.num_envs
        if len(rows) < self.num_envs:
            present = self._attribute(attr_name)
            values = [value if row in rows else present[row] for row in range(self.num_envs)]
        self.env.unwrapped.set_attr(attr_name, values)  # type: ignore[attr-defined]

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of some sub-environments.

        Raises:
            ValueError: If the sub-environments are in worker processes and ``indices`` does not name all of them.
        """
        rows = list(self._get_indices(indices))
        base = self.env.unwrapped
        if isinstance(base, SyncVectorEnv):
            return [base.envs[row].get_wrapper_attr(method_name)(*method_args, **method_kwargs) for row in rows]
        if len(rows) < self.num_envs:
            raise ValueError(
                f"indices must name all sub-environments in worker processes, got indices={indices!r}; use "
                'vectorization_mode="sync"'
            )
        return list(base.call(method_name, *method_args, **method_kwargs))  # type: ignore[attr-defined]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether sub-environments have a wrapper; always False for sub-environments in worker processes."""
        base = self.env.unwrapped
        rows = self._get_indices(indices)
        return [isinstance(base, SyncVectorEnv) and is_wrapped(base.envs[row], wrapper_class) for row in rows]

    def _attribute(self, name: str) -> list[Any]:
        """An attribute of every sub-environment."""
        if name == "parameters":
            rows = range(self.num_envs)
            each = {target: np.broadcast_to(value, self.num_envs) for target, value in self.env.parameters.items()}
            return [{target: float(values[row]) for target, values in each.items()} for row in rows]
        if name == "regime":
            return [int(regime) for regime in np.broadcast_to(self.env.regime, self.num_envs)]
        if name == "timescale":
            return [self.env.timescale / self.num_envs] * self.num_envs
        if name in _OF_ALL:
            return [getattr(self.env, name)] * self.num_envs
        return list(self.env.unwrapped.get_attr(name))  # type: ignore[attr-defined]


class ChangeCallback(BaseCallback):
    """Logs how environments change, at the end of every rollout.

    The callback logs each parameter's mean over the environments that change it as ``env/<target>``, and the
    highest regime as ``env/regime``. ``env/timescale`` is the shortest timescale, if it is finite, in env steps of
    all environments together. The scalars of the first environment's curriculum are under ``curriculum/``. The
    environments must be a `NonStationaryVecEnv`, or each must be a `rl_rms.envs.NonStationary`.

    Raises:
        ValueError: At the start of the training, if the environments have another type.
    """

    def _on_training_start(self) -> None:
        # A worker of SubprocVecEnv ends when a missing attribute is read.
        if not self.training_env.has_attr("parameters"):
            raise ValueError(
                "ChangeCallback needs environments that change; wrap each in rl_rms.envs.NonStationary, or make "
                "them with rl_rms.sb3.make_vec_env"
            )

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        env = self.training_env
        parameters: list[Mapping[str, float]] = env.get_attr("parameters")
        for target in dict.fromkeys(name for values in parameters for name in values):
            present = [values[target] for values in parameters if target in values]
            self.logger.record(f"env/{target}", float(np.mean(present)))
        self.logger.record("env/regime", float(max(env.get_attr("regime"))))
        timescale = min(env.get_attr("timescale")) * env.num_envs
        if np.isfinite(timescale):
            self.logger.record("env/timescale", timescale)
        curriculum = env.get_attr("curriculum", indices=0)[0]
        if curriculum is not None:
            for name, value in curriculum.log().items():
                self.logger.record(f"curriculum/{name}", value)


def make_vec_env(
    id: Makeable,
    num_envs: int = 1,
    changes: Mapping[str, Schedule | float] | None = None,
    *,
    vectorization_mode: str = "sync",
    **kwargs: Any,
) -> VecMonitor:
    """Make a vector environment that changes over time, for Stable-Baselines3.

    Args:
        id: See `rl_rms.envs.make_vec`.
        num_envs: Number of environments.
        changes: See `rl_rms.envs.NonStationaryVector`.
        vectorization_mode: ``"sync"`` steps environments one after the other, ``"async"`` each in its own process.
            A curriculum needs ``"sync"``.
        **kwargs: Other arguments of `rl_rms.envs.make_vec`, such as ``curriculum``, ``sharing``, ``observe`` and
            ``wrappers``, and arguments of the environment. ``seed`` is the seed of the drift; the algorithm's seed
            is used for everything else. ``vector_kwargs`` is not allowed.

    Returns:
        A `NonStationaryVecEnv` in Stable-Baselines3's VecMonitor, which records returns and lengths of episodes.

    Raises:
        ValueError: If an argument is out of its range, see `rl_rms.envs.NonStationaryVector`.
    """
    if vectorization_mode not in ("sync", "async"):
        raise ValueError(f"vectorization_mode must be sync or async, got {vectorization_mode!r}")
    same_step = {"autoreset_mode": "SameStep"}
    env = make_vec(id, num_envs, changes, vectorization_mode=vectorization_mode, vector_kwargs=same_step, **kwargs)
    return VecMonitor(NonStationaryVecEnv(env))
