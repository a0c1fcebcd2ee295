"""Finds the parameters of an environment by name, including parameters that only the first reset creates."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rl_rms.envs.parameters import Parameter, find_parameter, parameter_names
from rl_rms.envs.parameters.registry import find_owner
from rl_rms.envs.verification import copy_env


@dataclass(frozen=True)
class EnvParameter:
    """A parameter of one environment or wrapper.

    Attributes:
        parameter: The parameter.
        owner: The unwrapped environment or wrapper that has the parameter, or has it after its first reset.
        example: ``owner``. If only a reset creates some of the targets, the copy of ``owner`` after a reset.
    """

    parameter: Parameter
    owner: Any
    example: Any

    def setter(self) -> Callable[[Any], None]:
        """Return the function that sets the parameter. It has no effect until the parameter exists."""
        return self.parameter.setter(self.owner) if self.example is self.owner else self._set_if_it_exists

    def value(self) -> float:
        """Return the current value; the example's value as long as the parameter does not exist."""
        return self.parameter.value(self.owner if self._exists() else self.example)

    def _set_if_it_exists(self, value: Any) -> None:
        if self._exists():
            self.parameter.setter(self.owner)(value)

    def _exists(self) -> bool:
        if self.example is self.owner:
            return True
        try:
            self.parameter.read(self.owner)
        except (AttributeError, LookupError, TypeError):
            return False
        return True


def find_parameters(
    env: Any, targets: Sequence[str], others: Callable[[], Iterable[str]]
) -> dict[str, EnvParameter]:
    """Find the parameters of an environment.

    Args:
        env: The environment. Attributes of its wrappers can also be parameters.
        targets: Names of the parameters.
        others: Returns the names of the other possible targets, for errors.

    Raises:
        ValueError: If a target is not a parameter, or a change of the parameter is impossible or has no effect.
    """
    example = _find_example(env, targets)
    found = {}
    for target in targets:
        owner, name = find_owner(example, target)
        parameter = find_parameter(owner, name)
        if parameter is None:
            raise ValueError(_unknown(owner, name, target, others()))
        found[target] = EnvParameter(parameter, find_owner(env, target)[0], owner)
    return found


def _find_example(env: Any, targets: Sequence[str]) -> Any:
    """Return the environment, or a copy after a reset if only the copy has all parameters."""
    if _has_all(env, targets):
        return env
    try:
        clone = copy_env(env)
        clone.reset(seed=0)
    except Exception:  # the error of `find_parameters` names the missing target
        return env
    return clone if _has_all(clone, targets) else env


def _has_all(env: Any, targets: Iterable[str]) -> bool:
    try:
        return all(find_parameter(*find_owner(env, one)) is not None for one in targets)
    except ValueError:
        return False


def _unknown(owner: Any, name: str, target: str, others: Iterable[str]) -> str:
    """Describe the problem of a target that is not a parameter of its owner."""
    prefix = target.removesuffix(name)
    offered = [*(prefix + one for one in parameter_names(owner)), *others]
    close = difflib.get_close_matches(target, offered, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    if hasattr(owner, name):
        kind = type(getattr(owner, name)).__name__
        problem = f"{target!r} of {type(owner).__name__} must be a number to be changed, got a {kind}"
    else:
        problem = f"{type(owner).__name__} has no {target!r} to change"
        if name == target and target[:1].isupper() and "." in target:
            problem += ", and no wrapper of this name is inside the drift"
    return f"{problem}; {meant}the possible targets are {', '.join(offered)}"
