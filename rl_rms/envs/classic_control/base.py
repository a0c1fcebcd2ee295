"""The common part of the native vector environments: seeds, episodes, time limit, autoreset and rendering."""

import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium.envs.classic_control.utils import maybe_parse_reset_bounds
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
# A parameter: one value for all sub-environments, or shape (num_envs,).
Value = float | Floats


class ClassicControlVectorEnv(VectorEnv):
    """A native vector environment with the same transitions as a SyncVectorEnv.

    Each sub-environment has its own random generator, seeded as in a SyncVectorEnv. The parameters are attributes
    with the names of the single environment, which hold a scalar or an array of shape ``(num_envs,)``.

    Args:
        num_envs: Number of sub-environments, >= 1.
        max_episode_steps: Time limit of an episode, >= 1; None for no limit.
        autoreset_mode: A ``gymnasium.vector.AutoresetMode`` or its value.
        render_mode: ``"rgb_array"`` or None.
        **kwargs: Arguments of the single environment.

    Attributes:
        state: State of each sub-environment, shape ``(state size, num_envs)``; None before the first reset.
        steps: Steps of the episodes, shape ``(num_envs,)``.
        ended: Whether the last step ended the episode and no reset followed, shape ``(num_envs,)``.

    Raises:
        ValueError: If an argument is out of its range.
    """

    # Makes the single environment.
    _SINGLE: ClassVar[Callable[..., Any]]
    # Attributes of the single environment that the dynamics read.
    _PARAMETERS: ClassVar[tuple[str, ...]]
    # Default bounds of an initial state.
    _BOUNDS: ClassVar[tuple[float, float]]
    # The single environment computes its first observation in this precision.
    _INITIAL_DTYPE: ClassVar[type[np.floating[Any]]] = np.float64

    state: Floats | None = None

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
                f"render_mode must be None or 'rgb_array', got {render_mode!r}; other modes need "
                'vectorization_mode="sync"'
            )
        self.num_envs = check_int("num_envs", num_envs, least=1)
        self.max_episode_steps = sys.maxsize
        if max_episode_steps is not None:
            self.max_episode_steps = check_int("max_episode_steps", max_episode_steps, least=1)
        self.render_mode = render_mode
        # Provides the spaces and the parameters, and renders.
        self._single: Any = self._SINGLE(render_mode=render_mode, **kwargs)
        for name in self._PARAMETERS:
            setattr(self, name, getattr(self._single, name))
        self._mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self._single.metadata, "render_modes": ["rgb_array"], "autoreset_mode": self._mode}
        self.single_observation_space = self._single.observation_space
        self.single_action_space = self._single.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.steps = np.zeros(self.num_envs, dtype=np.int64)
        self.ended = np.zeros(self.num_envs, dtype=np.bool_)
        # Indexed by the number of the sub-environment.
        self._generators: dict[int, np.random.Generator] = {}
        self._seeds: dict[int, int] = {}

    @abstractmethod
    def _move(self, state: Floats, actions: Array) -> tuple[Floats, Floats, Mask]:
        """The states after a step, shape ``(state size, num_envs)``, the rewards and the terminations."""

    @abstractmethod
    def _observe(self, state: Array) -> npt.NDArray[np.float32]:
        """The observations of n states of shape ``(state size, n)``, shape ``(n, observation size)``."""

    @abstractmethod
    def _draw(self, generator: np.random.Generator, low: Any, high: Any) -> Array:
        """An initial state, shape ``(state size,)``."""

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: The seed of each sub-environment. An int is the first one's; each next one's is 1 larger.
            options: Options of the single environment. ``"reset_mask"``, bools of shape ``(num_envs,)``, selects
                the sub-environments to reset.

        Raises:
            ValueError: If the number of seeds, the mask or an option is wrong.
        """
        n = self.num_envs
        if seed is None or isinstance(seed, (int, np.integer)):
            seed = [None if seed is None else int(seed) + row for row in range(n)]
        if len(seed) != n:
            raise ValueError(f"seed must be an int or a list of {n} seeds, got {len(seed)} seeds")
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        begins = np.ones(n, dtype=np.bool_) if mask is None else _check_mask(mask, n)
        if self.state is None and not begins.all():
            raise ResetNeeded("the first reset must reset all sub-environments; leave 'reset_mask' out of options")
        bounds = self._bounds(options)
        for row in np.flatnonzero(begins).tolist():
            if seed[row] is not None or row not in self._generators:
                self._generators[row], self._seeds[row] = np_random(seed[row])
        self._begin(begins, bounds)
        self.ended = self.ended & ~begins
        return self._observations(), {}

    def step(self, actions: Any) -> tuple[npt.NDArray[np.float32], Floats, Mask, Mask, dict[str, Any]]:
        """Make a vector step.

        Raises:
            ValueError: If an action is not in the action space.
            gymnasium.error.ResetNeeded: If a sub-environment needs a reset.
        """
        actions = self._checked(actions)
        begins = self.ended
        is_mixed = bool(begins.any())
        if self.state is None or (is_mixed and self._mode is AutoresetMode.DISABLED):
            raise ResetNeeded(
                "reset the environment before its first step, and with autoreset_mode Disabled each "
                "sub-environment after its episode with reset(options={'reset_mask': ...})"
            )
        self.state, rewards, terminated = self._move(self.state, actions)
        self.steps += 1
        truncated = self.steps >= self.max_episode_steps
        if is_mixed:
            self._begin(begins, self._bounds({}))
            rewards[begins] = 0.0
            terminated[begins] = False
            truncated[begins] = False
        self.ended = terminated | truncated
        observations = self._observations() if is_mixed else self._observe(self.state)
        if self._mode is not AutoresetMode.SAME_STEP or not self.ended.any():
            return observations, rewards, terminated, truncated, {}
        infos = _final(observations, self.ended)
        self._begin(self.ended, self._bounds({}))
        self.ended = np.zeros_like(self.ended)
        return self._observations(), rewards, terminated, truncated, infos

    def render(self) -> tuple[Array, ...] | None:
        """A picture of each sub-environment, drawn by the single environment; None without a render mode."""
        if self.render_mode is None or self.state is None:
            return None
        return tuple(self._picture(row) for row in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window of the renderer."""
        self._single.close()

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

    def _bounds(self, options: dict[str, Any]) -> tuple[Any, Any]:
        """The bounds of initial states."""
        return maybe_parse_reset_bounds(options, *self._BOUNDS)

    def _begin(self, begins: Mask, bounds: tuple[Any, Any]) -> None:
        """Begin episodes in the sub-environments of a mask."""
        rows = np.flatnonzero(begins).tolist()
        drawn = np.stack([self._draw(self._generators[row], *bounds) for row in rows], axis=1)
        if self.state is None:
            self.state = np.zeros((len(drawn), self.num_envs))
        self.state[:, rows] = drawn
        self.steps[rows] = 0

    def _observations(self) -> npt.NDArray[np.float32]:
        """The observations, some of which may be first observations of episodes."""
        assert self.state is not None
        observations = self._observe(self.state)
        first = self.steps == 0
        observations[first] = self._observe(self.state[:, first].astype(self._INITIAL_DTYPE))
        return observations

    def _checked(self, actions: Any) -> Array:
        """The actions in the type of the action space.

        Raises:
            ValueError: If the shape is wrong, or a discrete action is not in the action space.
        """
        space = self.single_action_space
        checked: Array = np.asarray(actions)
        if checked.shape != self.action_space.shape:
            raise ValueError(f"actions must have shape {self.action_space.shape}, got shape {checked.shape}")
        if not isinstance(space, Discrete):
            return checked.astype(np.float32, copy=False)
        if checked.dtype.kind not in "iu" or checked.min() < 0 or checked.max() >= space.n:
            raise ValueError(f"actions must be whole numbers from 0 to {space.n - 1}, got {actions}")
        return checked

    def _picture(self, row: int) -> Array:
        for name in self._PARAMETERS:
            value = getattr(self, name)
            setattr(self._single, name, value[row] if isinstance(value, np.ndarray) else value)
        assert self.state is not None
        self._single.state = self.state[:, row]
        picture: Array = self._single.render()
        return picture


def clip(values: Array, low: Any, high: Any) -> Array:
    """Clip an array; much faster than ``numpy.clip`` for short ones."""
    clipped: Array = np.minimum(np.maximum(values, low), high)
    return clipped


def _check_mask(mask: Any, num_envs: int) -> Mask:
    """Check a mask of sub-environments to reset.

    Raises:
        ValueError: If its type or shape is wrong, or it selects none.
    """
    if not (isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (num_envs,) and mask.any()):
        raise ValueError(
            f"options['reset_mask'] must be an array of {num_envs} bools, of which one is true at least, "
            f"got {mask!r}"
        )
    return mask


def _final(observations: npt.NDArray[np.float32], ended: Mask) -> dict[str, Any]:
    """The last observations of episodes, as a SyncVectorEnv reports them."""
    final = np.full(len(ended), None, dtype=object)
    for row in np.flatnonzero(ended):
        final[row] = observations[row]
    return {"final_obs": final, "_final_obs": ended.copy(), "final_info": {}, "_final_info": ended.copy()}
