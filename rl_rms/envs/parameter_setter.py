"""Sets the targets of an environment by name to the values of schedules and curricula.

A target is a parameter of the environment or of a wrapper, or one of `rl_rms.envs.transforms`. This module serves
single environments and native vector environments. In a vector environment, a value is a scalar for all
sub-environments or an array of shape ``(num_envs,)``.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rl_rms.envs.env_parameters import find_parameters
from rl_rms.envs.parameters import Parameter
from rl_rms.envs.target_transforms import TargetTransforms
from rl_rms.envs.verification import verify_effect


class ParameterSetter:
    """Sets the parameters of an environment, and the values of its transforms.

    Args:
        env: The environment. Attributes of its wrappers can also be targets.
        targets: Names of the targets.
        transforms: The transforms of these targets.
        arrays: Targets whose values are arrays of shape ``(num_envs,)``.

    Attributes:
        targets: Names of the targets.
        now: The current value if there is one target, else the tuple of the current values. Each value is None
            until the values are first set.
        assign: Sets the targets to values in the form of ``now``, without changing ``now``.
        late: Targets that take effect only at the next reset.
        episodic: Indices of the targets whose changes end the episode in progress.

    Raises:
        ValueError: If the environment does not have a target, or a change of a target would have no effect.
    """

    def __init__(
        self, env: Any, targets: Sequence[str], transforms: TargetTransforms, arrays: Sequence[str] = ()
    ) -> None:
        self.targets = tuple(targets)
        self._is_single = len(self.targets) == 1
        self.now: Any = None if self._is_single else (None,) * len(self.targets)
        self._env = env
        self._transforms = transforms
        self._has_arrays = bool(arrays)
        self._find_parameters()
        for target, one in self._parameters.items():
            if target in arrays and not one.parameter.batched:
                raise ValueError(
                    f"{type(env.unwrapped).__name__} does not support one {target!r} for each sub-environment; "
                    'use vectorization_mode="sync", or register_parameter(..., batched=True)'
                )
        owners: dict[int, tuple[Any, dict[str, Parameter]]] = {}
        for target, one in self._parameters.items():
            owners.setdefault(id(one.example), (one.example, {}))[1][target] = one.parameter
        for owner, parameters in owners.values():
            verify_effect(owner, parameters)
        effects = {target: one.parameter.effect for target, one in self._parameters.items()}
        self.late = tuple(target for target, effect in effects.items() if effect != "step")
        self.episodic = tuple(
            index for index, target in enumerate(self.targets) if effects.get(target) == "episode"
        )

    @property
    def values(self) -> tuple[Any, ...]:
        """The current values, in the order of the targets. Each value is None until the values are first set."""
        return (self.now,) if self._is_single else self.now

    def set(self, values: tuple[Any, ...]) -> None:
        """Set the targets whose values have changed. If a target has arrays, equal values may also be set again.

        Args:
            values: Value of each target, in the order of the targets: a scalar, or shape ``(num_envs,)``.
        """
        now = values[0] if self._is_single else values
        # Setting an array is cheaper than comparing it.
        if now is not self.now and (self._has_arrays or now != self.now):
            self.assign(now)
            self.now = now

    def ends_episode(self, values: tuple[Any, ...]) -> bool:
        """Whether setting ``values`` ends the episode in progress."""
        return any(values[index] != self.values[index] for index in self.episodic)

    def current(self) -> tuple[float, ...]:
        """Return the current value of each target, even if the value was never set."""
        return tuple(
            self._transforms.value(target) if target in self._transforms else self._parameters[target].value()
            for target in self.targets
        )

    def again(self) -> None:
        """Set all values again, because the environment may have restored its own values."""
        if self._is_single:
            if self.now is not None:
                self.assign(self.now)
            return
        for setter, value in zip(self._setters, self.now, strict=True):
            if value is not None:
                setter(value)

    def set_all(self, values: tuple[Any, ...]) -> None:
        """Set all targets, including targets whose values have not changed."""
        self.now = values[0] if self._is_single else values
        self.again()

    def _find_parameters(self) -> None:
        names = [target for target in self.targets if target not in self._transforms]
        self._parameters = find_parameters(self._env, names, self._transforms.fitting)
        self._setters: list[Callable[[Any], None]] = [
            self._transforms.setter(target) if target in self._transforms else self._parameters[target].setter()
            for target in self.targets
        ]
        self.assign = self._setters[0] if self._is_single else self._assign_each

    def _assign_each(self, values: tuple[Any, ...]) -> None:
        now = self.now
        for index, setter in enumerate(self._setters):
            new, before = values[index], now[index]
            if new is not before and (self._has_arrays or new != before):
                setter(new)

    def __getstate__(self) -> dict[str, Any]:
        # Registered functions may be lambdas, which cannot be pickled. `__setstate__` finds the functions by name.
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("_parameters", "_setters", "assign")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._find_parameters()
        # Box2D and MuJoCo environments are created again when unpickled, with their initial values.
        self.again()
