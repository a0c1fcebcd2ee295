"""Optuna's samplers and pruners, by the names that a sweep uses."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from optuna import Study, pruners, samplers
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from rl_rms.cli.search import STRETCHES, Search, label


@contextmanager
def experimental() -> Iterator[None]:
    """Silence Optuna's warnings about its experimental features."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


class SeededByTrial(samplers.BaseSampler):
    """A sampler with a new seed for each trial, derived from the sweep's seed and the number of the trial.

    If workers shared one seed, they would all draw the same values, and a resumed sweep would repeat its first
    trials.
    """

    def __init__(self, make: Callable[[int], samplers.BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._sampler = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed the sampler for the trial."""
        self._sampler = self._make(int(np.random.SeedSequence((self._seed, trial.number)).generate_state(1)[0]))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See Optuna's `BaseSampler`."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See Optuna's `BaseSampler`."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See Optuna's `BaseSampler`."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """See Optuna's `BaseSampler`."""
        self._sampler.after_trial(study, trial, state, values)


def make_sampler(search: Search) -> samplers.BaseSampler:
    """Make the sampler of a sweep."""
    sweep = search.sweep
    if sweep.sampler == "grid":
        grid = {key: [label(one) for one in given.ends] for key, given in sweep.distributions.items()}
        return samplers.GridSampler(grid, seed=sweep.sampler_seed)
    if sweep.sampler == "random":
        return SeededByTrial(lambda seed: samplers.RandomSampler(seed=seed), sweep.sampler_seed)
    return SeededByTrial(_make_tpe, sweep.sampler_seed)


def _make_tpe(seed: int) -> samplers.BaseSampler:
    # constant_liar makes parallel workers try different values.
    with experimental():  # Optuna 4 warns of multivariate and constant_liar
        return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def make_pruner(search: Search) -> pruners.BasePruner:
    """Make the pruner of a sweep."""
    if search.sweep.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=STRETCHES // 4)
    return pruners.NopPruner()
