"""Sets keys of a configuration, from command-line words or from a mapping of dotted keys."""

import copy
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from rl_rms.cli.errors import UserError
from rl_rms.cli.yaml_files import read_value

# The values of these keys are mappings whose only key names a schedule or curriculum.
_ONE_KEY = (
    "env.curriculum",
    "agent.learning_rate",
    "agent.critic_learning_rate",
    "agent.ent_coef",
    "agent.clip_range",
    "agent.clip_range_vf",
)


def read_words(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Read ``--KEY VALUE`` and ``--KEY=VALUE`` from left to right.

    Yields:
        The key and the text of each option.

    Raises:
        UserError: If a word is not a key, or a key has no value.
    """
    waiting = iter(words)
    for word in waiting:
        option, equals, text = word.partition("=")
        if not option.startswith("--") or option == "--":
            raise UserError(f"unexpected argument {word!r}; give keys as --KEY VALUE")
        if not equals:
            following = next(waiting, None)
            if following is None or following.startswith("--"):
                raise UserError(f"{option} needs a value")
            text = following
        yield option[2:], text


def walk(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings and lists with its dotted key, parents before children."""
    yield place, value
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, one in value.items():
            yield from walk(one, f"{place}.{key}" if place else str(key))


def with_words(tree: Mapping[str, Any], words: Sequence[str], annotations: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a tree, and set keys from command-line words, from left to right.

    Args:
        tree: Plain data, which is not changed.
        words: Such as ``["--env.num_envs", "4", "--env.kwargs.gravity=9.8"]``.
        annotations: Type of each dotted key. The value of a key of type str is the text itself. The values of
            other keys are read as YAML.

    Raises:
        UserError: If a word is wrong, or its value is not YAML.
    """
    changed = dict(tree)
    for key, text in read_words(words):
        value = text if annotations.get(key) is str else read_value(text, f"--{key}")
        changed = with_values(changed, {key: value})
    return changed


def with_values(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a tree, and set keys to values. A schedule or curriculum with another name replaces the old one.

    Args:
        tree: Plain data, which is not changed.
        values: Values by dotted key.
    """
    changed = copy.deepcopy(dict(tree))
    for key, value in values.items():
        parts = _parts(key, value)
        node = changed
        for depth, part in enumerate(parts[:-1], 1):
            child = node.get(part)
            if not isinstance(child, dict):
                child = node[part] = {}
            if ".".join(parts[:depth]) in _ONE_KEY or (parts[:2] == ["env", "changes"] and depth == 3):
                child = node[part] = {name: one for name, one in child.items() if name == parts[depth]}
            node = child
        node[parts[-1]] = copy.deepcopy(value)
    return changed


def _parts(key: str, value: Any) -> list[str]:
    """Split a dotted key. A target of env.changes such as reward.scale or model.opt.timestep stays one part."""
    parts = key.split(".")
    if parts[:2] != ["env", "changes"] or len(parts) < 4:
        return parts
    # The modules import Gymnasium, which other keys do not need.
    from rl_rms.envs.schedules import SCHEDULES
    from rl_rms.envs.targets import parse_target

    # The name of a schedule comes after the target. A misspelled name must not become part of the target. A name
    # before another schedule is part of the target, such as constant in spring.constant.
    begin = next((i for i in range(4, len(parts) + 1) if parse_target(".".join(parts[2:i]))), 3)
    if isinstance(value, dict):
        is_schedule = any(name in SCHEDULES for name in value)
    else:
        is_schedule = not isinstance(value, list)
    before_schedule = [*(part in SCHEDULES for part in parts[1:]), is_schedule]
    names = (
        i
        for i in range(begin, len(parts))
        if not before_schedule[i] and difflib.get_close_matches(parts[i], SCHEDULES, 1, 0.8)
    )
    end = next(names, len(parts))
    return [*parts[:2], ".".join(parts[2:end]), *parts[end:]]


def annotations_of(kind: type, **instead: type) -> dict[str, Any]:
    """Return the type of each dotted key of a dataclass and of the dataclasses in it."""
    found: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for one in fields(kind):
        hint = instead.get(one.name, hints[one.name])
        found[one.name] = hint
        inner = next((option for option in (hint, *get_args(hint)) if is_dataclass(option)), None)
        if isinstance(inner, type):
            found |= {f"{one.name}.{key}": of_key for key, of_key in annotations_of(inner).items()}
    return found


def with_whole_numbers(tree: dict[str, Any], annotations: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return the tree with whole floats such as ``1e6`` converted to integers, for the keys that need integers."""
    changed = {}
    for key, value in tree.items():
        place = f"{where}{key}"
        if isinstance(value, dict):
            changed[key] = with_whole_numbers(value, annotations, f"{place}.")
        else:
            changed[key] = _whole(value) if _holds_integers(annotations.get(place)) else value
    return changed


def _holds_integers(annotation: Any) -> bool:
    types = set(_types_in(annotation))
    return int in types and float not in types


def _types_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for one in get_args(annotation):
        yield from _types_in(one)


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value
