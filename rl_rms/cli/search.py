"""The dataclass behind SWEEP.yaml, its distributions, and the configuration of each trial.

This module imports neither torch nor Optuna, so errors in a file are reported at once.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from rl_rms.cli.callbacks import refuse_callbacks
from rl_rms.cli.config import RunConfig, check_dotted, parse_config, read_beside, read_file_of
from rl_rms.cli.errors import UserError, suggestion
from rl_rms.cli.groups import OWN
from rl_rms.cli.overrides import walk, with_values

Metric = Literal["whole_run", "final", "worst_regime"]
Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["none", "median"]
Engine = Literal["local", "ray"]

# A training run reports its returns after each of this many equal intervals of env steps.
STRETCHES = 20


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """The values to try for one key.

    Args:
        choices: Values to choose from; None for a range.
        low: Lower end of the range.
        high: Upper end of the range; if both ends are whole numbers, only whole numbers are tried.
        log: Whether the logarithm of the value is uniformly distributed, instead of the value.
    """

    choices: tuple[Any, ...] | None = None
    low: int | float = 0
    high: int | float = 0
    log: bool = False

    @classmethod
    def of(cls, key: str, given: Any) -> "Distribution":
        """Read ``[a, b, c]``, ``{choices: [a, b, c]}`` or ``{low: 1.0e-4, high: 1.0e-1, log: true}``.

        Raises:
            UserError: If the value has another form, has no choices, or is not a valid range.
        """
        if isinstance(given, list):
            given = {"choices": given}
        known = [one.name for one in fields(cls)]
        if not isinstance(given, dict) or not given.keys() <= set(known):
            raise UserError(
                f"vary.{key} must be a list of values or a range such as {{low: 1.0e-4, high: 1.0e-1}}, with "
                f"log: true for a logarithmic range, got {given!r}"
            )
        if "choices" in given:
            if len(given) > 1 or not isinstance(given["choices"], list) or not given["choices"]:
                raise UserError(
                    f"vary.{key}: choices must be a list of at least one value, without other keys, got {given!r}"
                )
            labels = [label(choice) for choice in given["choices"]]
            if len(set(labels)) < len(labels):
                raise UserError(
                    f"vary.{key}: choices must be different, got {given['choices']!r}; true equals 1, and false "
                    "equals 0"
                )
            return cls(choices=tuple(given["choices"]))
        low, high = (_number(f"vary.{key}.{name}", given.get(name)) for name in ("low", "high"))
        log = given.get("log", False)
        if not low < high:
            raise UserError(f"vary.{key} must have low < high, got {low!r} and {high!r}")
        if not isinstance(log, bool) or (log and low <= 0):
            raise UserError(f"vary.{key}: log must be true or false, and true only with low > 0, got {given!r}")
        return cls(low=low, high=high, log=log)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that are validated: every choice, or both ends of the range."""
        return self.choices if self.choices is not None else (self.low, self.high)

    def suggest(self, trial: Any, key: str) -> Any:
        """Draw a key's value for an Optuna trial."""
        if self.choices is not None:
            by_label = {label(choice): choice for choice in self.choices}
            return by_label[trial.suggest_categorical(key, list(by_label))]
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(key, self.low, self.high, log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)


def _number(name: str, given: Any) -> int | float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise UserError(f"{name} must be a number, got {given!r}")
    return given


def label(choice: Any) -> str | int | float | bool | None:
    """Convert a list or a mapping to text, because Optuna accepts neither. Return other choices unchanged."""
    return json.dumps(choice) if isinstance(choice, (list, dict)) else choice


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """The configuration of a sweep.

    Args:
        config: Run configuration to vary: a packaged name or a YAML file, relative to the folder of the sweep's
            file or the working folder.
        vary: The values of each key, by its dotted name: a list of values, or ``{low: 1.0e-4, high: 1.0e-1, log:
            true}``.
        fix: Values of other keys of the configuration, by dotted name.
        metric: Return to maximize. ``whole_run`` is the mean over the training, in which each twentieth of the env
            steps has equal weight. ``final`` is the mean of the last 100 episodes. ``worst_regime`` is the mean of
            the regime with the lowest mean.
        trials: Number of trials. A trial has one value for each key of ``vary``.
        seeds: Seeds with which every trial is trained. The result of a trial is the median over its seeds.
        sampler: Method that chooses a trial's values: ``tpe``, ``random`` or ``grid`` (every combination of
            choices).
        sampler_seed: Seed of the sampler. With several workers, only ``random`` is reproducible.
        pruner: Rule that ends trials early: ``none``, or ``median``, which compares the return so far with the
            median of earlier trials, at each twentieth of a training run.
    """

    config: str
    vary: Mapping[str, Any]
    fix: Mapping[str, Any] = field(default_factory=dict)
    metric: Metric = "whole_run"
    trials: int = 30
    seeds: Sequence[int] = (0, 1, 2)
    sampler: Sampler = "tpe"
    sampler_seed: int = 0
    pruner: Pruner = "none"

    def __post_init__(self) -> None:
        if not isinstance(self.config, str):
            raise UserError(f"config must be the name of a configuration or a YAML file, got {self.config!r}")
        self._check_keys()
        for name, allowed in (("metric", Metric), ("sampler", Sampler), ("pruner", Pruner)):
            value = getattr(self, name)
            if value not in get_args(allowed):
                raise UserError(
                    f"{name} must be one of {', '.join(get_args(allowed))}, got {value!r}"
                    + suggestion(str(value), get_args(allowed))
                )
        if isinstance(self.trials, bool) or not isinstance(self.trials, int) or self.trials < 1:
            raise UserError(f"trials must be a whole number >= 1, got {self.trials!r}")
        seeds = self.seeds
        are_valid = isinstance(seeds, (list, tuple)) and all(type(seed) is int and seed >= 0 for seed in seeds)
        if not are_valid or not seeds or len(set(seeds)) < len(seeds):
            raise UserError(f"seeds must be different whole numbers >= 0, such as [0, 1, 2], got {seeds!r}")
        if type(self.sampler_seed) is not int:
            raise UserError(f"sampler_seed must be a whole number, got {self.sampler_seed!r}")
        if self.sampler == "grid":
            ranges = [key for key, one in self.distributions.items() if one.choices is None]
            if ranges:
                raise UserError(
                    f"sampler: grid needs lists of choices, but vary.{ranges[0]} is a range; give a list"
                )

    def _check_keys(self) -> None:
        for name in ("vary", "fix"):
            if not isinstance(getattr(self, name), Mapping):
                raise UserError(
                    f"{name} must have dotted keys such as agent.learning_rate, got {getattr(self, name)!r}"
                )
            check_dotted(name, getattr(self, name))
            if "seed" in getattr(self, name):
                raise UserError(f"{name}.seed must not be given; the key seeds of the sweep sets the seeds")
        if not self.vary:
            raise UserError("vary must have at least one key, such as agent.learning_rate")
        for key in self.vary.keys() & self.fix.keys():
            raise UserError(f"{key} must not be in both vary and fix; remove it from one of them")
        check_dotted("fix and vary", {**self.fix, **self.vary})

    @property
    def distributions(self) -> dict[str, Distribution]:
        """The distribution of each key."""
        return {key: Distribution.of(key, given) for key, given in self.vary.items()}

    @property
    def num_trials(self) -> int:
        """The number of trials; with the sampler ``grid``, at most the size of the grid."""
        if self.sampler != "grid":
            return self.trials
        return min(self.trials, math.prod(len(one.ends) for one in self.distributions.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return the sweep as plain data."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Search:
    """A sweep with the configuration that it varies.

    Attributes:
        name: Name of the sweep, which is also the name of its study and its folder.
        sweep: The sweep.
        tree: The varied configuration as plain data.
    """

    name: str
    sweep: SweepConfig
    tree: dict[str, Any]

    def run_config(self, values: Mapping[str, Any], seed: int) -> RunConfig:
        """Make the configuration of one training run.

        Args:
            values: Values by dotted key.
            seed: Seed of the training.

        Raises:
            UserError: If a value is invalid, or the configuration names callbacks.
        """
        config = parse_config(with_values(self.tree, {**self.sweep.fix, **values, "seed": seed}))
        refuse_callbacks(config.callbacks, "rl-rms sweep")
        return config

    def question(self) -> dict[str, Any]:
        """The settings that identify a study, as plain data. Other values of these settings need another study.

        The number of trials, the sampler and the pruner may change later. ``values`` are the values of the varied
        configuration by dotted key.
        """
        kept = self.sweep.to_dict()
        values = {
            key: value for key, value in walk(self.tree) if key and key not in OWN and not isinstance(value, dict)
        }
        return {
            **{
                key: one for key, one in kept.items() if key not in ("trials", "sampler_seed", "sampler", "pruner")
            },
            "values": json.loads(json.dumps(values, default=str)),
        }

    def check(self) -> None:
        """Validate every choice and both ends of every range.

        Raises:
            UserError: If a value is invalid.
        """
        distributions = self.sweep.distributions
        common = {key: one.ends[0] for key, one in distributions.items()}
        for key, one in distributions.items():
            for value in one.ends:
                self._check_one({**common, key: value}, key)

    def _check_one(self, values: Mapping[str, Any], key: str) -> None:
        try:
            self.run_config(values, self.sweep.seeds[0])
        except UserError as error:
            raise UserError(
                f"vary allows {key} = {label(values[key])!r}, but the configuration is then invalid: {error}"
            ) from error


def read_search(sweep: str, changes: Mapping[str, Any]) -> Search:
    """Read a sweep by path or packaged name.

    Args:
        sweep: Path of a YAML file, or the name of a packaged sweep.
        changes: Values that override keys of the file.

    Raises:
        UserError: If the file, a key, a value or the varied configuration is wrong.
    """
    keys = [one.name for one in fields(SweepConfig)]
    path, tree = read_file_of("sweep", sweep, keys, "config", "vary")
    config = SweepConfig(**{**tree, **changes})
    search = Search(path.stem, config, read_beside(path, config.config))
    search.check()
    return search
