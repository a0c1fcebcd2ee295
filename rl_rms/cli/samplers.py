"""Who chooses a sweep's points, and who gives up on them: Optuna's samplers and pruners."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from optuna import Study, pruners, samplers
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from rl_rms.cli.errors import UserError
from rl_rms.cli.search import STRETCHES, Search, label


@contextmanager
def experimental() -> Iterator[None]:
    """Use what Optuna calls experimental, which its users need not be told of at each use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


class SeededByTrial(samplers.BaseSampler):
    """A sampler whose chance is each trial's own.

    Workers that share a seed would all draw the same points, and a sweep that is started again those that it has.

    Args:
        make: From a seed to a sampler that remembers nothing but what the study holds.
        seed: Of all.
    """

    def __init__(self, make: Callable[[int], samplers.BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._sampler = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Begin with the trial's own seed."""
        self._sampler = self._make(int(np.random.SeedSequence((self._seed, trial.number)).generate_state(1)[0]))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The sampler's own."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The sampler's own."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The sampler's own."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """The sampler's own."""
        self._sampler.after_trial(study, trial, state, values)


class Grid(samplers.GridSampler):
    """A grid that does not want to stop a loop of Optuna's when it has been walked through: there is none here."""

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Nothing."""


def make_sampler(search: Search) -> samplers.BaseSampler:
    """The sampler that a sweep names.

    Raises:
        UserError: If it needs a package that is not installed.
    """
    sweep = search.sweep
    seed = sweep.sampler_seed
    by_chance = SeededByTrial(lambda own: samplers.RandomSampler(seed=own), seed)
    if sweep.sampler == "grid":
        grid = {key: [label(one) for one in given.ends] for key, given in sweep.distributions.items()}
        return Grid(grid, seed=seed)
    if sweep.sampler == "qmc":
        # All workers count on in one sequence, which has to be the same; before the first trial is at its end,
        # optuna 4 does not know of what.
        with experimental():
            return samplers.QMCSampler(seed=seed, scramble=True, independent_sampler=by_chance)
    if sweep.sampler == "cmaes":
        try:
            import cmaes  # noqa: F401
        except ImportError as error:
            raise UserError(
                "sampler: cmaes needs the package cmaes; install it with pip install 'rl_rms[sweep]'"
            ) from error
        return samplers.CmaEsSampler(seed=seed, independent_sampler=by_chance)
    if sweep.sampler == "tpe":
        return SeededByTrial(_make_tpe, seed)
    return by_chance


def _make_tpe(seed: int) -> samplers.BaseSampler:
    # With a constant lie about the running trials, parallel workers keep out of each other's way.
    with experimental():  # before optuna 5
        return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def make_pruner(search: Search) -> pruners.BasePruner:
    """The pruner that a sweep names."""
    soon = STRETCHES // 4
    name = search.sweep.pruner
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=soon)
    if name == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=soon)
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=soon, max_resource=STRETCHES * len(search.sweep.seeds))
    if name == "wilcoxon":
        with experimental():
            return pruners.WilcoxonPruner()
    return pruners.NopPruner()
