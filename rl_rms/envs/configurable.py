"""The YAML form ``{name: {argument: value}}`` that schedules, curricula and gates share."""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from rl_rms.envs.checks import arguments


class Configurable:
    """Base class of schedules, curricula and gates, which a configuration names by their ``name``.

    The arguments of a constructor are the keys of the YAML form. A class of the library with a ``name`` is
    registered when the class is defined, unless its arguments cannot be written as YAML. User-defined classes are
    not registered, so a configuration builds only classes of the library.

    Attributes:
        name: The name of the class in YAML. A user-defined class without a ``name`` gets the name of the Python
            class.
    """

    name: ClassVar[str]
    # Each kind of classes has a name and a valid example for errors, and a dictionary of its classes by name.
    _kind: ClassVar[str]
    _example: ClassVar[str]
    _classes: ClassVar[dict[str, type[Any]]]
    # The attribute that stores an argument, for each argument whose name a method or property already has.
    _kept_as: ClassVar[Mapping[str, str]] = {}
    # The argument that gets a list, if the YAML form has a list in place of named arguments.
    _list_argument: ClassVar[str | None] = None

    def __init_subclass__(
        cls, kind: str | None = None, example: str = "", in_yaml: bool = True, **kwargs: Any
    ) -> None:
        """Define a kind of classes, or register a class of a kind.

        Args:
            kind: Name of a new kind; None registers a class under the kind of its base class.
            example: A YAML form of the kind, for errors.
            in_yaml: False for a class whose arguments cannot be written as YAML.
            **kwargs: Arguments for other base classes.
        """
        super().__init_subclass__(**kwargs)
        if kind is not None:
            cls._kind, cls._example, cls._classes = kind, example, {}
        elif in_yaml and "name" in vars(cls) and cls.__module__.startswith("rl_rms."):
            cls._classes[cls.name] = cls
        elif not hasattr(cls, "name") and not cls.__module__.startswith("rl_rms."):
            cls.name = cls.__name__

    @classmethod
    def _read(cls, config: Any) -> Any:
        """Build an object of this kind from its YAML form; an object of the kind is returned unchanged.

        Raises:
            ValueError: If the form does not name a class of the kind, or arguments are invalid or missing.
        """
        if isinstance(config, cls):
            return config
        known = cls._classes
        if not isinstance(config, Mapping) or len(config) != 1 or next(iter(config)) not in known:
            raise ValueError(
                f"a {cls._kind} must be one of {', '.join(sorted(known))} with its arguments, such as "
                f"{cls._example}, got {config!r}"
            )
        ((name, given),) = config.items()
        if isinstance(given, (list, tuple)) and known[name]._list_argument is not None:
            given = {known[name]._list_argument: given}
        if not isinstance(given, Mapping):
            raise ValueError(f"the arguments of {name} must be given by name, got {given!r}")
        takes = arguments(known[name])
        for argument in given:
            if argument not in takes:
                raise ValueError(f"{name} has no argument {argument!r}; its arguments are {', '.join(takes)}")
        needed = [one for one, default in takes.items() if default is inspect.Parameter.empty]
        missing = [one for one in needed if one not in given]
        if missing:
            raise ValueError(f"{name} needs {' and '.join(missing)}, got {dict(given)!r}")
        return known[name](**given)

    def to_config(self) -> dict[str, Any]:
        """Return the YAML form, ``{name: {argument: value}}``, without arguments that have default values."""
        return {self.name: {name: plain(value) for name, value in self._given().items()}}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._given().items())})"

    def _given(self) -> dict[str, Any]:
        """Return the constructor's arguments whose values differ from their defaults."""
        defaults = arguments(type(self))
        values = {name: getattr(self, self._kept_as.get(name, name)) for name in defaults}
        return {name: value for name, value in values.items() if value != defaults[name]}


def plain(value: Any) -> Any:
    """Convert an argument for YAML: tuples to lists, and objects to their YAML forms."""
    if isinstance(value, Configurable):
        return value.to_config()
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value
