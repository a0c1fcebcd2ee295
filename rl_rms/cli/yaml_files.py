"""Reads YAML as plain data, and reports malformed and too large documents as `UserError`."""

import re
from pathlib import Path
from typing import Any

import yaml

from rl_rms.cli.errors import UserError

_MOST_VALUES, _DEEPEST = 100_000, 100
_FLOAT = "tag:yaml.org,2002:float"
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader that reads ``7e-4`` and ``1e3`` as numbers, and dates as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it this way
        first: [(tag, form) for tag, form in forms if tag not in (_FLOAT, "tag:yaml.org,2002:timestamp")]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)"
        r"|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def read_file(path: Path, name: str | None = None) -> dict[str, Any]:
    """Read a YAML file.

    Args:
        path: The file.
        name: Name of the file in errors; its path by default.

    Raises:
        UserError: If the file is not UTF-8, or `read_yaml` rejects its text.
    """
    name = str(path) if name is None else name
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is not UTF-8 text: byte {error.object[error.start]:#04x} at position {error.start}; "
            "save it as UTF-8"
        ) from error
    return read_yaml(text, name)


def read_yaml(text: str, name: str) -> dict[str, Any]:
    """Read a YAML document that is a mapping. An empty document gives an empty mapping.

    Raises:
        UserError: If the document is neither a mapping nor empty, or `read_value` rejects it.
    """
    tree = read_value(text, name)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{name} must be a mapping of keys to values, got {tree!r}")
    return tree


def read_value(text: str, name: str) -> Any:
    """Read a YAML document of any type.

    Raises:
        UserError: If the document is not YAML, has a key twice, or has too many values or levels.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            _check_twice(node, name)
            value = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, TypeError) as error:  # ValueError: an integer has too many digits
        raise UserError(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UserError(f"{name} is nested more than {_DEEPEST} levels deep") from error
    _check_size(value, name)
    return value


def _check_twice(root: yaml.Node | None, name: str) -> None:
    """Raise an error for a mapping that has a key twice.

    Raises:
        UserError: If a key occurs twice. The message names the key and the line of its second occurrence.
    """
    waiting, visited = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
            continue
        keys = set[tuple[str, str]]()
        for key, value in node.value:
            waiting.append(value)
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if (key.tag, key.value) in keys:
                raise UserError(
                    f"{name} has the key {key.value!r} twice, again in line {key.start_mark.line + 1}; keep one"
                )
            keys.add((key.tag, key.value))


def _check_size(tree: Any, name: str) -> None:
    """Raise an error for a tree that is too large. A few lines of YAML aliases can expand to billions of values.

    Raises:
        UserError: If the tree has too many values or too many levels.
    """
    seen = 0
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise UserError(f"{name} has more than {_MOST_VALUES:,} values once its aliases are expanded")
        if depth > _DEEPEST:
            raise UserError(f"{name} is nested more than {_DEEPEST} levels deep")
        if isinstance(node, (dict, list)):
            inner = node.values() if isinstance(node, dict) else node
            waiting.extend((one, depth + 1) for one in inner)
