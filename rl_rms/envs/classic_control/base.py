"""The base class of the native vector environments for classic control: parameters, initial states, rendering."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium.envs.classic_control.utils import maybe_parse_reset_bounds
from gymnasium.spaces import Discrete

from rl_rms.envs.native_vector import Array, Floats, Mask, NativeVectorEnv

# A parameter: one value for all sub-environments, or shape (num_envs,).
Value = float | Floats


class ClassicControlVectorEnv(NativeVectorEnv):
    """A native vector environment whose states are the columns of an array.

    Each parameter is an attribute with the same name as in Gymnasium's single environment. The value is a scalar
    for all sub-environments, or an array of shape ``(num_envs,)``.

    Attributes:
        state: State of each sub-environment, shape ``(state size, num_envs)``; None before the first reset.
    """

    # Makes the single environment.
    _SINGLE: ClassVar[Callable[..., Any]]
    # Attributes of the single environment that the dynamics or the pictures depend on.
    _PARAMETERS: ClassVar[tuple[str, ...]]
    # Default bounds of an initial state.
    _BOUNDS: ClassVar[tuple[float, float]]
    # Precision in which the single environment computes the first observation of an episode.
    _INITIAL_DTYPE: ClassVar[type[np.floating[Any]]] = np.float64

    state: Floats | None = None

    @abstractmethod
    def _move(self, state: Floats, actions: Array) -> tuple[Floats, Floats, Mask]:
        """Compute the states after a step, shape ``(state size, num_envs)``, the rewards and the terminations."""

    @abstractmethod
    def _observe(self, state: Array) -> npt.NDArray[np.float32]:
        """Return the observations, shape ``(n, observation size)``, of states of shape ``(state size, n)``."""

    @abstractmethod
    def _draw(self, generator: np.random.Generator, low: Any, high: Any) -> Array:
        """Draw an initial state, shape ``(state size,)``."""

    def render(self) -> tuple[Array, ...] | None:
        """Return a picture of each sub-environment; None without a render mode or before the first reset."""
        if self.render_mode is None or self.state is None:
            return None
        return tuple(self._picture(row) for row in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Close the renderer."""
        self._single.close()

    def _make(self, **kwargs: Any) -> Any:
        single = self._SINGLE(**kwargs)
        for name in self._PARAMETERS:
            # Acrobot shares the list of its torques with its class.
            setattr(self, name, copy.copy(getattr(single, name)))
        return single

    def _bounds(self, options: dict[str, Any]) -> tuple[Any, Any]:
        """Return the bounds of initial states."""
        return maybe_parse_reset_bounds(options, *self._BOUNDS)

    def _begin(self, begins: Mask, options: dict[str, Any], infos: dict[str, Any]) -> None:
        bounds = self._bounds(options)
        rows = np.flatnonzero(begins).tolist()
        drawn = np.stack([self._draw(self._generators[row], *bounds) for row in rows], axis=1)
        if self.state is None:
            self.state = np.zeros((len(drawn), self.num_envs))
        self.state[:, rows] = drawn

    def _advance(self, actions: Array) -> tuple[Floats, Mask, dict[str, Array]]:
        assert self.state is not None
        self.state, rewards, terminated = self._move(self.state, actions)
        return rewards, terminated, {}

    def _observations(self, has_first: bool) -> npt.NDArray[np.float32]:
        assert self.state is not None
        observations = self._observe(self.state)
        if has_first:
            first = self.steps == 0
            observations[first] = self._observe(self.state[:, first].astype(self._INITIAL_DTYPE))
        return observations

    def _checked(self, actions: Any) -> Array:
        checked = super()._checked(actions)
        is_discrete = isinstance(self.single_action_space, Discrete)
        return checked if is_discrete else checked.astype(np.float32, copy=False)

    def _picture(self, row: int) -> Array:
        for name in self._PARAMETERS:
            value = getattr(self, name)
            setattr(self._single, name, value[row] if isinstance(value, np.ndarray) else value)
        assert self.state is not None
        self._single.state = self.state[:, row]
        picture: Array = self._single.render()
        return picture
