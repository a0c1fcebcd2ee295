"""The base class of the native vector environments: seeds, episodes, time limit and autoreset."""

import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Discrete
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rl_rms.envs.checks import check_int
from rl_rms.envs.encoding import decode, encode

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class NativeVectorEnv(VectorEnv):
    """A vector environment that computes all sub-environments at once, with the transitions of a SyncVectorEnv.

    Each sub-environment has its own random generator, seeded as in a SyncVectorEnv.

    Args:
        num_envs: Number of sub-environments, >= 1.
        max_episode_steps: Time limit of an episode, >= 1; None for no limit.
        autoreset_mode: A ``gymnasium.vector.AutoresetMode`` or its value.
        render_mode: ``"rgb_array"`` or None.
        **kwargs: Arguments of the single environment.

    Attributes:
        steps: Number of env steps since each episode began, shape ``(num_envs,)``.
        ended: Whether the last step ended the episode and no reset followed, shape ``(num_envs,)``.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(
                f"render_mode must be None or 'rgb_array', got {render_mode!r}; for other modes, set "
                'vectorization_mode="sync"'
            )
        self.num_envs = check_int("num_envs", num_envs, least=1)
        self.max_episode_steps = sys.maxsize
        if max_episode_steps is not None:
            self.max_episode_steps = check_int("max_episode_steps", max_episode_steps, least=1)
        self.render_mode = render_mode
        # The single environment provides the spaces and the metadata. Subclasses may also read its parameters and
        # render with it.
        self._single: Any = self._make(render_mode=render_mode, **kwargs)
        self._mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self._single.metadata, "render_modes": ["rgb_array"], "autoreset_mode": self._mode}
        self.single_observation_space = self._single.observation_space
        self.single_action_space = self._single.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.steps = np.zeros(self.num_envs, dtype=np.int64)
        self.ended = np.zeros(self.num_envs, dtype=np.bool_)
        # The keys are indices of sub-environments.
        self._generators: dict[int, np.random.Generator] = {}
        self._seeds: dict[int, int] = {}

    @abstractmethod
    def _make(self, **kwargs: Any) -> Any:
        """Make the single environment."""

    @abstractmethod
    def _begin(self, begins: Mask, options: dict[str, Any], infos: dict[str, Any]) -> None:
        """Begin episodes in the sub-environments that ``begins`` marks, and add their entries to ``infos``."""

    @abstractmethod
    def _advance(self, actions: Array) -> tuple[Floats, Mask, dict[str, Array]]:
        """Make a step, and return the rewards, the terminations and the infos of all sub-environments.

        The results of sub-environments that have ``ended`` are not used.
        """

    @abstractmethod
    def _observations(self, has_first: bool) -> Array:
        """Compute the observations. With ``has_first``, some observations may be the first of their episodes."""

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: The seed of each sub-environment. An int is the seed of the first sub-environment; each next seed
                is larger by 1. With None, a sub-environment keeps its random generator. If it has no generator
                yet, it gets one with a random seed.
            options: Options of the single environment. ``"reset_mask"``, bools of shape ``(num_envs,)``, selects
                the sub-environments to reset.

        Raises:
            ValueError: If the number of seeds, the mask or an option is wrong.
            gymnasium.error.ResetNeeded: If the first reset has a mask that leaves out a sub-environment.
        """
        n = self.num_envs
        if seed is None or isinstance(seed, (int, np.integer)):
            seed = [None if seed is None else int(seed) + row for row in range(n)]
        if len(seed) != n:
            raise ValueError(f"seed must be an int or a list of {n} seeds, got {len(seed)} seeds")
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        begins = np.ones(n, dtype=np.bool_) if mask is None else _check_mask(mask, n)
        if not self._generators and not begins.all():
            raise ResetNeeded("the first reset must reset all sub-environments; leave 'reset_mask' out of options")
        for row in np.flatnonzero(begins).tolist():
            if seed[row] is not None or row not in self._generators:
                self._generators[row], self._seeds[row] = np_random(seed[row])
        infos: dict[str, Any] = {}
        self.steps[begins] = 0
        self._begin(begins, options, infos)
        self.ended = self.ended & ~begins
        return self._observations(True), infos

    def step(self, actions: Any) -> tuple[Array, Floats, Mask, Mask, dict[str, Any]]:
        """Make a vector step.

        Raises:
            ValueError: If the shape of the actions is wrong, or a discrete action is not in the action space.
            gymnasium.error.ResetNeeded: If there was no reset yet, or if autoreset is disabled and an episode has
                ended.
        """
        actions = self._checked(actions)
        begins = self.ended
        is_mixed = bool(begins.any())
        if not self._generators or (is_mixed and self._mode is AutoresetMode.DISABLED):
            raise ResetNeeded(
                "reset the environment before its first step. With autoreset_mode Disabled, also reset each "
                "sub-environment after its episode, with reset(options={'reset_mask': ...})"
            )
        rewards, terminated, values = self._advance(actions)
        self.steps += 1
        truncated = self.steps >= self.max_episode_steps
        infos = _with_masks(values, ~begins)
        if is_mixed:
            self.steps[begins] = 0
            self._begin(begins, {}, infos)
            rewards[begins] = 0.0
            terminated[begins] = False
            truncated[begins] = False
        self.ended = terminated | truncated
        observations = self._observations(is_mixed)
        if self._mode is not AutoresetMode.SAME_STEP or not self.ended.any():
            return observations, rewards, terminated, truncated, infos
        ended, self.ended = self.ended, np.zeros_like(self.ended)
        infos = {**_with_masks(values, ~ended), **_final(observations, values, ended)}
        self.steps[ended] = 0
        self._begin(ended, {}, infos)
        return self._observations(True), rewards, terminated, truncated, infos

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random generator of each sub-environment; empty before the first reset."""
        return tuple(self._generators.values())

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each sub-environment; empty before the first reset."""
        return tuple(self._seeds.values())

    @property
    def generator_state(self) -> dict[str, Any]:
        """The states of the random generators as plain JSON data."""
        return {
            "generators": [encode(one.bit_generator.state) for one in self.np_random],
            "seeds": [str(seed) for seed in self.np_random_seed],
        }

    @generator_state.setter
    def generator_state(self, state: Mapping[str, Any]) -> None:
        self._seeds = {row: int(seed) for row, seed in enumerate(state["seeds"])}
        for row, saved in enumerate(state["generators"]):
            self._generators[row], _ = np_random(self._seeds[row])
            self._generators[row].bit_generator.state = decode(saved)

    def _checked(self, actions: Any) -> Array:
        """Return the actions as an array.

        Raises:
            ValueError: If the shape is wrong, or a discrete action is not in the action space.
        """
        space = self.single_action_space
        checked: Array = np.asarray(actions)
        if checked.shape != self.action_space.shape:
            raise ValueError(f"actions must have shape {self.action_space.shape}, got shape {checked.shape}")
        if isinstance(space, Discrete) and (
            checked.dtype.kind not in "iu" or checked.min() < 0 or checked.max() >= space.n
        ):
            raise ValueError(f"actions must be whole numbers from 0 to {space.n - 1}, got {actions}")
        return checked


def clip(values: Array, low: Any, high: Any) -> Array:
    """Clip an array; much faster than ``numpy.clip`` for short arrays."""
    clipped: Array = np.minimum(np.maximum(values, low), high)
    return clipped


def _check_mask(mask: Any, num_envs: int) -> Mask:
    """Check a mask of sub-environments to reset.

    Raises:
        ValueError: If the type or shape of the mask is wrong, or the mask selects no sub-environment.
    """
    if not (isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (num_envs,) and mask.any()):
        raise ValueError(
            f"options['reset_mask'] must be an array of {num_envs} bools, at least one of them True, got {mask!r}"
        )
    return mask


def _with_masks(values: Mapping[str, Array], rows: Mask) -> dict[str, Any]:
    """Return the infos of the sub-environments that ``rows`` marks, with Gymnasium's mask of each entry."""
    infos: dict[str, Any] = {}
    if values and rows.any():
        is_all = rows.all()
        for name, value in values.items():
            infos[name] = value if is_all else np.where(rows, value, np.zeros_like(value))
            infos[f"_{name}"] = rows.copy()
    return infos


def _final(observations: Array, values: Mapping[str, Array], ended: Mask) -> dict[str, Any]:
    """Return the last observations and infos of the episodes that ``ended``, in the format of a SyncVectorEnv."""
    final = np.full(len(ended), None, dtype=object)
    for row in np.flatnonzero(ended):
        final[row] = observations[row]
    masks = {"_final_obs": ended.copy(), "_final_info": ended.copy()}
    return {"final_obs": final, "final_info": _with_masks(values, ended), **masks}
