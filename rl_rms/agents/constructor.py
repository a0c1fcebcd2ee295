"""Constructor arguments derived from a configuration's dataclass: values, signature and documentation."""

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, ParamSpec, TypeVar

from torch import nn

from rl_rms.agents.config import SYNONYMS, AgentConfig
from rl_rms.agents.config_parts import PolicyConfig
from rl_rms.agents.optimizers import optimizer_path

P = ParamSpec("P")
ConfigT = TypeVar("ConfigT", bound=AgentConfig)
# Arguments of other libraries that are not hyperparameters here, and their replacements.
_VECTOR = 'make the environment with rl_rms.envs.make_vec("CartPole-v1", num_envs=8)'
_OPTIMIZER = 'give optimizer="torch.optim.Adam" or another class, and optimizer_kwargs={"eps": 1e-5}'
_INSTEAD = {
    "n_envs": _VECTOR,
    "num_envs": _VECTOR,
    "policy_kwargs": 'give policy=PolicyConfig(hidden_sizes=(64, 64), activation="tanh"); for another optimizer '
    + _OPTIMIZER,
    "optimizer_class": _OPTIMIZER,
    "use_rms_prop": _OPTIMIZER,
    "rms_prop_eps": _OPTIMIZER,
    "tensorboard_log": 'give agent.learn(..., log_dir="runs/mine")',
    "verbose": "give agent.learn(..., progress_bar=True)",
    "net_arch": "give policy=PolicyConfig(hidden_sizes=(64, 64))",
    "activation_fn": 'give policy=PolicyConfig(activation="tanh")',
}
_OF_POLICY = {spec.name for spec in fields(PolicyConfig)}
# The class determines the algorithm. Policies and optimizers may be objects, so they are the constructor's own
# arguments.
_NOT_DERIVED = ("algorithm", "policy", "optimizer")


def make_config(
    cls: type[ConfigT],
    config: AgentConfig | None,
    hyperparameters: Mapping[str, Any],
    policy: PolicyConfig | nn.Module | None,
    optimizer: Any,
) -> ConfigT:
    """A configuration from constructor arguments.

    Args:
        cls: The configuration's class.
        config: The configuration; None makes a configuration from ``hyperparameters``.
        hyperparameters: Values by name. Hyperparameters without a value get their defaults.
        policy: A `PolicyConfig`, a module or None.
        optimizer: An optimizer's class or import path; None for the configuration's default optimizer.

    Raises:
        TypeError: If a hyperparameter has an unknown name, if ``config`` is given together with hyperparameters,
            or if ``config`` has a wrong class.
        ValueError: If a value is out of its range.
    """
    kind = cls.__name__.removesuffix("Config")
    if config is not None:
        if hyperparameters or isinstance(policy, PolicyConfig):
            name = next(iter(hyperparameters), "policy")
            raise TypeError(f"config contains all hyperparameters; leave {name} out, or leave config out")
        if not isinstance(config, cls):
            raise TypeError(f"config of {kind} must be {cls.__name__}, got {type(config).__name__}")
        return config
    known = [spec.name for spec in _derived(cls)]
    for name in hyperparameters:
        if name not in known:
            close = difflib.get_close_matches(SYNONYMS.get(name, name), known, n=1, cutoff=0.5)
            mend = f"did you mean {close[0]!r}?" if close else f"its hyperparameters are {', '.join(known)}"
            if name in _OF_POLICY:
                mend = f"give policy=PolicyConfig({name}=...)"
            raise TypeError(f"{kind} has no hyperparameter {name!r}; {_INSTEAD.get(name, mend)}")
    given = dict(hyperparameters)
    if isinstance(policy, PolicyConfig):
        given["policy"] = policy
    if optimizer is not None:
        given["optimizer"] = optimizer_path(optimizer)
    return cls(**given)


def named_arguments(constructor: Callable[P, None]) -> Callable[P, None]:
    """Decorate a constructor so that its errors suggest replacements for Stable-Baselines3's arguments."""

    @functools.wraps(constructor)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        agent, *given = args
        _check_arguments(type(agent).__name__, given, kwargs.get("env"), kwargs.get("policy"))
        constructor(*args, **kwargs)

    return checked


def _check_arguments(kind: str, given: Sequence[Any], env: Any, policy: Any) -> None:
    """Raise an error for arguments of Stable-Baselines3's constructors.

    Args:
        kind: Class of the agent.
        given: The positional arguments.
        env: The argument ``env``.
        policy: The argument ``policy``.

    Raises:
        TypeError: If ``env`` or ``policy`` is the name of a policy, if there are several positional arguments, or
            if ``policy`` has a wrong type. The message names the replacement.
    """
    policies = [one for one in (*given[:1], env, policy) if isinstance(one, str) and one.endswith("Policy")]
    if policies:
        raise TypeError(
            f"{kind} has no policy {policies[0]!r}; leave it out, as in {kind}(env), or give "
            "policy=PolicyConfig(hidden_sizes=(64, 64))"
        )
    if len(given) > 1:
        raise TypeError(
            f"{kind} takes only env as a positional argument, got {given[1]!r} too; give the others by name, "
            f"such as {kind}(env, learning_rate=7e-4)"
        )
    if not isinstance(policy, (PolicyConfig, nn.Module, type(None))):
        raise TypeError(f"policy must be a PolicyConfig or a torch module, got {policy!r}")


def document(cls: type, shared: str) -> None:
    """Show all arguments of an agent's class in its signature and docstring.

    Args:
        cls: The class. A class with its own constructor shows the signature of this constructor.
        shared: The docstring of the agents' base class.
    """
    if "__init__" in vars(cls):
        cls.__signature__ = None  # type: ignore[attr-defined]
    elif "config_class" in vars(cls):
        config_class = cls.config_class  # type: ignore[attr-defined]
        cls.__signature__ = _signature(cls.__init__, config_class)  # type: ignore[attr-defined, misc]
        cls.__doc__ = _docs(cls.__doc__ or "", shared, config_class)


def _signature(constructor: Any, cls: type[AgentConfig]) -> inspect.Signature:
    """A constructor's signature with a configuration's fields instead of ``**hyperparameters``."""
    own = [
        parameter
        for name, parameter in inspect.signature(constructor).parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    derived = [
        inspect.Parameter(spec.name, inspect.Parameter.KEYWORD_ONLY, default=_default(spec), annotation=spec.type)
        for spec in _derived(cls)
    ]
    positional = [parameter for parameter in own if parameter.kind is not inspect.Parameter.KEYWORD_ONLY]
    return inspect.Signature([*positional, *derived, *own[len(positional) :]])


def _docs(doc: str, shared: str, cls: type[AgentConfig]) -> str:
    """A class docstring with all arguments of the constructor.

    Args:
        doc: The docstring, which may have its own sections "Args" and "Raises".
        shared: The base class's docstring, for the sections that ``doc`` lacks.
        cls: The configuration. Its fields replace ``**hyperparameters``.
    """
    doc = inspect.cleandoc(doc)
    text, mark, examples = doc.partition("Examples:\n")
    missing = [_section(shared, name) for name in ("Args", "Raises") if f"{name}:\n" not in doc]
    described: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        described.update(_described(base.__doc__ or ""))
    lines = [f"    {spec.name}: {_in_python(described[spec.name])}\n" for spec in _derived(cls)]
    placeholder = re.compile(r"^    \*\*hyperparameters:.*\n(?:        .*\n)*", re.MULTILINE)
    merged = "\n\n".join([text.rstrip(), *missing, mark + examples]).rstrip()
    return placeholder.sub(lambda _: "".join(lines), merged + "\n").rstrip()


def _in_python(text: str) -> str:
    """Replace YAML's constants by Python's constants."""
    constants = {"null": "None", "true": "True", "false": "False"}
    return re.sub(rf"\b({'|'.join(constants)})\b", lambda word: constants[word.group()], text)


def _section(doc: str, name: str) -> str:
    """A section of a docstring with its heading, without the blank line after it."""
    section = re.search(rf"^{name}:\n.*?(?=\n\n|\Z)", inspect.cleandoc(doc), re.DOTALL | re.MULTILINE)
    return "" if section is None else section.group()


def _derived(cls: type[AgentConfig]) -> list["Field[Any]"]:
    return [spec for spec in fields(cls) if spec.name not in _NOT_DERIVED]


def _default(spec: "Field[Any]") -> Any:
    return spec.default if spec.default_factory is MISSING else spec.default_factory()


def _described(doc: str) -> dict[str, str]:
    """The text of each argument in a docstring's section "Args", with its line breaks."""
    section = _section(doc, "Args").removeprefix("Args:\n")
    parts = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)
    return {name: text.rstrip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}
