"""A run's configuration: the dataclass behind the YAML files and the command line, and its readers."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from rl_rms.agents.config import SYNONYMS, A2CConfig, AgentConfig, PPOConfig, ReinforceConfig
from rl_rms.cli.callbacks import named_callbacks
from rl_rms.cli.errors import UserError, suggestion
from rl_rms.cli.overrides import annotations_of, read_words, walk, with_whole_numbers, with_words
from rl_rms.cli.parser import Parser, one_sentence
from rl_rms.cli.scale import ScaleConfig
from rl_rms.cli.yaml_files import read_file
from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.config import EnvConfig

ALGORITHMS: dict[str, type[AgentConfig]] = {"a2c": A2CConfig, "ppo": PPOConfig, "reinforce": ReinforceConfig}

# Only the dataclasses check the values of these keys. jsonargparse must not see these values, because it builds an
# object from any class_path in them.
_FREE_FORM = (
    "env.changes",
    "env.curriculum",
    "env.wrappers",
    "env.kwargs",
    "agent.optimizer_kwargs",
    "agent.log_info",
    "agent.learning_rate",
    "agent.critic_learning_rate",
    "agent.ent_coef",
    "agent.normalize_observation",
    "agent.normalize_reward",
    "agent.clip_range",
    "agent.clip_range_vf",
    "callbacks",
)

# Arguments of other libraries, with the keys that replace them in a configuration.
_OTHER_NAMES = {
    "env_id": "env.id",
    "env_kwargs": "env.kwargs",
    "policy_kwargs": "agent.policy",
    "eps": "agent.optimizer_kwargs.eps",
    "rms_prop_eps": "agent.optimizer_kwargs.eps",
    "momentum": "agent.optimizer_kwargs.momentum",
    "weight_decay": "agent.optimizer_kwargs.weight_decay",
    "centered": "agent.optimizer_kwargs.centered",
    "tensorboard_log": "runs_dir",
    "capture_video": "video_every",
    "verbose": "progress",
}

_PRINT = "--print_config"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The configuration of a run.

    Args:
        env: The environment.
        agent: The agent.
        total_timesteps: Env steps to train for, all sub-environments together.
        seed: Seed of the network, the actions and the environment. If env.drift_seed is null, it is also the seed
            of the environment's changes.
        log_interval: Rollouts between two entries of the log; null logs every hundredth of the training, and at
            least every 100 rollouts (ppo: every rollout).
        checkpoint_every: Env steps between two checkpoints; null saves only at the end.
        keep_checkpoints: Number of newest intermediate checkpoints to keep; null keeps all.
        eval_every: Env steps between two evaluations; null for no evaluations. The last evaluation is at the end
            of the training. Evaluations use the environment of the run with a frozen clock. If they affect the
            training, a warning says so. The best agent is saved in ``checkpoints/best.safetensors``.
        eval_episodes: Episodes of each evaluation.
        eval_deterministic: Whether evaluations take the most likely actions or sample them; ``both`` does both.
        eval_clocks: Clock readings, in env steps, at which to evaluate; null for the current clock reading.
        stop_at: The training stops when the mean return of an evaluation is at least this number; null for no
            such limit.
        patience: The training stops after this number of evaluations in a row without a better mean return; null
            for no such limit.
        histogram_every: Env steps between two histograms in TensorBoard of the logarithms of the second moment
            and of the optimizer's steps; null for none.
        video_every: Env steps between two recorded episodes. The run's folder ``videos`` contains the videos;
            null records none. Needs the extra ``video``.
        callbacks: Callbacks of the training, named by a class of rl_rms.agents or an import path
            ``module:Class``. Arguments follow the name, as in ``[my_callbacks:Plain, {my_callbacks:Mine: {every:
            1000}}]``.
        num_threads: Threads of torch; more than one slows small networks down.
        runs_dir: Parent folder of the run's folder.
        progress: Form of the progress on standard output: ``auto`` (a live view in a terminal, otherwise
            ``lines``), ``lines``, ``json`` (one object per line and nothing else) or ``none`` (only the run's
            folder, at the end).
        scale: Processes that train the agent together.
    """

    env: EnvConfig = field(default_factory=EnvConfig)
    agent: AgentConfig = field(default_factory=A2CConfig)
    total_timesteps: int = 100_000
    seed: int = 0
    log_interval: int | None = None
    checkpoint_every: int | None = None
    keep_checkpoints: int | None = 5
    eval_every: int | None = None
    eval_episodes: int = 10
    eval_deterministic: bool | Literal["both"] = True
    eval_clocks: list[int] | None = None
    stop_at: float | None = None
    patience: int | None = None
    histogram_every: int | None = None
    video_every: int | None = None
    callbacks: list[Any] = field(default_factory=list)
    num_threads: int = 1
    runs_dir: str = "runs"
    progress: Literal["auto", "lines", "json", "none"] = "auto"
    scale: ScaleConfig = field(default_factory=ScaleConfig)

    def __post_init__(self) -> None:
        for name in ("total_timesteps", "eval_episodes", "num_threads"):
            check_int(name, getattr(self, name), least=1)
        for name in ("checkpoint_every", "eval_every", "histogram_every", "video_every"):
            if getattr(self, name) is not None:
                check_int(f"{name}, unless it is null,", getattr(self, name), least=1, unit="env steps")
        for name in ("log_interval", "keep_checkpoints", "patience"):
            if getattr(self, name) is not None:
                check_int(f"{name}, unless it is null,", getattr(self, name), least=1)
        if self.eval_every is None and (self.stop_at is not None or self.patience is not None):
            raise ValueError("stop_at and patience need evaluations, but eval_every is null; set eval_every too")
        if self.stop_at is not None:
            check_number("stop_at", self.stop_at)
        for clock in self.eval_clocks or ():
            check_int("each of eval_clocks", clock, least=0, unit="env steps")
        if self.progress not in ("auto", "lines", "json", "none"):
            raise ValueError(f"progress must be auto, lines, json or none, got {self.progress!r}")
        check_int("seed", self.seed, least=0)
        list(named_callbacks(self.callbacks))

    @property
    def rollouts_per_entry(self) -> int:
        """Maximum number of rollouts between two entries of the log."""
        return self.agent.default_log_interval if self.log_interval is None else self.log_interval

    @property
    def drift_seed(self) -> int:
        """Seed of the environment's changes."""
        return self.seed if self.env.drift_seed is None else self.env.drift_seed

    @property
    def pace(self) -> int:
        """Env steps of all sub-environments per clock step: ``num_envs`` with independent clocks, otherwise 1."""
        return self.env.num_envs if self.env.sharing == "independent" else 1

    def to_yaml(self) -> str:
        """Format the configuration as YAML for `read_config`, without the Ray address."""
        from rl_rms.agents.config_file import to_yaml

        return to_yaml(asdict(replace(self, scale=replace(self.scale, address=None))))


def run_parser(algorithm: str = "a2c") -> Parser:
    """Make the parser of a run's keys, with the agent's keys of one algorithm.

    Raises:
        UserError: If the algorithm is unknown.
    """
    _check_algorithm(algorithm)
    parser = Parser()
    parser.add_class_arguments(RunConfig, None, as_group=False, instantiate=False, skip={"env", "agent", "scale"})
    parser.add_class_arguments(EnvConfig, "env")
    parser.add_class_arguments(ALGORITHMS[algorithm], "agent")
    parser.add_class_arguments(ScaleConfig, "scale")
    return parser


def _check_algorithm(algorithm: str) -> str:
    if algorithm not in ALGORITHMS:
        raise UserError(
            f"agent.algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}"
            + suggestion(str(algorithm), ALGORITHMS)
        )
    return algorithm


def read_config(config: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration by path or packaged name, and override some of its keys.

    Args:
        config: Path of a YAML file, or the name of a packaged configuration.
        overrides: Words of the command line, such as ``["--agent.half_life", "20_000 steps"]``.

    Raises:
        UserError: If the file, a key, a type or a value is wrong.
    """
    return parse_config(read_file(find_config(config), str(config)), overrides)


def parse_config(tree: Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """Make a configuration from a file's data, with keys overridden on the command line.

    If the words include ``--print_config``, this function prints the configuration and exits.

    Args:
        tree: Plain data of a configuration file.
        overrides: Words of the command line, applied from left to right.

    Raises:
        UserError: If a key, a type or a value is wrong, or the file contains a Ray address.
    """
    _check_address(tree)
    words = [word for word in overrides if word != _PRINT]
    # The annotations only tell which keys are strings, and all algorithms have the same string keys. _make_config
    # rejects keys that the chosen algorithm lacks.
    changed = with_words(tree, words, _annotations("a2c"))
    config = _make_config(changed)
    if len(words) < len(overrides):
        print(config.to_yaml(), end="")
        raise SystemExit(0)
    return config


def _check_address(tree: Mapping[str, Any]) -> None:
    """Raise an error for a Ray address in a file, because the file may be untrusted.

    Raises:
        UserError: If the file contains a Ray address.
    """
    scale = tree.get("scale")
    if isinstance(scale, dict) and scale.get("address") is not None:
        raise UserError(
            f"scale.address must not be in a file, got {scale['address']!r}; remove it there and give "
            "--scale.address on the command line"
        )


def _make_config(tree: dict[str, Any]) -> RunConfig:
    """Make a configuration from plain data.

    jsonargparse parses all keys except the keys in `_FREE_FORM`.
    """
    agent = tree.get("agent")
    annotations = _annotations(str(agent.get("algorithm", "a2c")) if isinstance(agent, dict) else "a2c")
    _check_keys(tree, annotations)
    _check_no_class(tree)
    tree, free_form = _without_free_form(with_whole_numbers(tree, annotations))
    parser = run_parser(algorithm_of(tree))
    try:
        values = parser.instantiate(parser.parse_object(tree))
        parts = {one.name: values[one.name] for one in fields(RunConfig)}
        parts |= free_form.pop("", {})
        for part, given in free_form.items():
            parts[part] = replace(parts[part], **given)
        return RunConfig(**parts)
    except OverflowError as error:
        raise UserError(f"{_too_large(tree)} must be at most 1.8e308, got a larger number") from error
    except (ValueError, TypeError) as error:
        raise UserError(one_sentence(str(error))) from error


def _annotations(algorithm: str) -> dict[str, Any]:
    """Return the type of each dotted key of a run's configuration, with one algorithm's keys of the agent."""
    return annotations_of(RunConfig, agent=ALGORITHMS[_check_algorithm(algorithm)])


def _check_keys(tree: dict[str, Any], annotations: Mapping[str, Any], where: str = "") -> None:
    """Check the names of all keys, and that sections are mappings.

    Raises:
        UserError: If a key is unknown, or a section is not a mapping.
    """
    for key, value in tree.items():
        place = f"{where}{key}"
        if place not in annotations:
            raise UserError(_unknown_key(where, str(key), annotations))
        if place in _FREE_FORM or not any(one.startswith(f"{place}.") for one in annotations):
            continue
        if isinstance(value, dict):
            _check_keys(value, annotations, f"{place}.")
        elif value is not None or type(None) not in get_args(annotations[place]):
            raise UserError(f"{place} must be a mapping of keys, got {value!r}; leave it out for the defaults")


def _unknown_key(where: str, key: str, annotations: Mapping[str, Any]) -> str:
    """Return the error message for an unknown key of the section ``where``."""
    place = f"{where}{key}"
    if not key or any(map(str.isspace, key)):
        return f"there is no key {place!r}; each key must be a word without spaces"
    meant = f"{where}{SYNONYMS.get(key, key)}"
    others = [name for name, kind in ALGORITHMS.items() if meant in annotations_of(RunConfig, agent=kind)]
    if others and meant not in annotations:
        return (
            f"{meant} exists only for agent.algorithm {' and '.join(others)}; remove {place}, or set "
            f"agent.algorithm to {others[0]}"
        )
    known = [one for one in annotations if one.rpartition(".")[0] == where[:-1]]
    hint = _suggestion(place, annotations) or f"; the keys are {', '.join(known)}"
    return f"there is no key {place!r}{hint}"


def _suggestion(place: str, annotations: Mapping[str, Any]) -> str:
    """Suggest a key for an unknown key: the same setting under another library's name, or a similar spelling."""
    part, _, word = place.rpartition(".")
    meant = _OTHER_NAMES.get(word, SYNONYMS.get(word, word))
    named = [key for key in annotations if key.rpartition(".")[2] == meant]
    siblings = [key for key in annotations if key.rpartition(".")[0] == part]
    if meant in annotations or word in _OTHER_NAMES:
        return f"; did you mean {meant}?"
    return suggestion(f"{part}.{meant}", named) or suggestion(place, siblings) or suggestion(place, annotations)


def _check_no_class(tree: Mapping[str, Any]) -> None:
    """Raise an error for a key ``class_path``, because jsonargparse would create an object of that class.

    Raises:
        UserError: If the tree contains such a key.
    """
    for place, value in walk(tree):
        if place.rpartition(".")[2] == "class_path":
            raise UserError(
                f"{place} must not be given, got {value!r}. A configuration file cannot create an object from its "
                "import path. Give the values themselves, or create the object in a script"
            )


def _without_free_form(tree: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Separate the values of the keys in `_FREE_FORM` from the rest of a configuration."""
    kept = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    taken: dict[str, dict[str, Any]] = {}
    for place in _FREE_FORM:
        part, _, key = place.rpartition(".")
        section = kept.get(part, {}) if part else kept
        if key in section:
            taken.setdefault(part, {})[key] = section.pop(key)
    return kept, taken


def _too_large(tree: Mapping[str, Any]) -> str:
    """Find the key of an integer that is too large for a float; empty if there is none."""
    return next(
        (key for key, value in walk(tree) if isinstance(value, int) and abs(value) > sys.float_info.max), ""
    )


def algorithm_of(tree: Mapping[str, Any], overrides: Sequence[str] = ()) -> str:
    """Return the algorithm that the last command-line word sets; without such a word, the algorithm of the tree.

    Args:
        tree: Plain data of a configuration file.
        overrides: Words of the command line.
    """
    chosen = [text for key, text in read_words(overrides) if key == "agent.algorithm"]
    agent = tree.get("agent")
    of_tree = agent.get("algorithm", "a2c") if isinstance(agent, dict) else "a2c"
    return chosen[-1] if chosen else str(of_tree)


def packaged_configs(kind: str = "") -> dict[str, Path]:
    """Return the paths of the packaged YAML files by name.

    Args:
        kind: ``"sweep"`` or ``"federation"``; empty for configurations of runs.
    """
    folder = resources.files("rl_rms.configs")
    if kind:
        folder /= f"{kind}s"
    return {Path(one.name).stem: Path(str(one)) for one in folder.iterdir() if one.name.endswith(".yaml")}


def find_config(config: str | Path, kind: str = "") -> Path:
    """Find a file, given by its path or packaged name.

    Args:
        config: The path or the name.
        kind: As for `packaged_configs`.

    Raises:
        UserError: If there is no such file.
    """
    if Path(config).is_file():
        return Path(config)
    packaged = packaged_configs(kind)
    if str(config) in packaged:
        return packaged[str(config)]
    raise UserError(
        f"there is no {kind or 'configuration'} {str(config)!r}; give the path of a YAML file, or one of "
        f"{', '.join(sorted(packaged))}" + suggestion(str(config), packaged)
    )


def read_file_of(kind: str, name: str, keys: Sequence[str], *required: str) -> tuple[Path, dict[str, Any]]:
    """Read a sweep or a federation by path or packaged name. Return the path and the content of its file.

    Raises:
        UserError: If there is no such file, if a key is not one of ``keys``, or if a required key is missing.
    """
    path = find_config(name, kind)
    tree = read_file(path, name)
    for key in tree:
        if key not in keys:
            raise UserError(f"{name}: unknown key {key!r}; the keys are {', '.join(keys)}{suggestion(key, keys)}")
    for key in required:
        if key not in tree:
            raise UserError(f"{name}: {key} is missing")
    return path, tree


def check_dotted(place: str, given: Mapping[Any, Any]) -> None:
    """Check that the keys of a mapping are dotted keys of a run's configuration.

    Raises:
        UserError: If a key is not a string, if a key is a whole section such as ``env``, or if a key replaces an
            earlier key.
    """
    for key in given:
        if not isinstance(key, str) or key in ("env", "agent", "scale"):
            raise UserError(f"{place} must have dotted keys such as env.num_envs or agent.n_steps, got {key!r}")
    for earlier, later in combinations(given, 2):
        if earlier.startswith(f"{later}."):
            raise UserError(f"{place}: {later} replaces the earlier key {earlier}; remove one of them")


def read_beside(path: Path, config: str) -> dict[str, Any]:
    """Read a run configuration as plain data.

    Args:
        path: File that names the configuration.
        config: Packaged name, or path relative to the folder of ``path`` or to the working folder.

    Raises:
        UserError: If there is no such configuration.
    """
    beside = path.parent / config
    return read_file(beside if beside.is_file() else find_config(config), config)
