"""ALP-GMM, which draws tasks by their absolute learning progress from a mixture of Gaussians."""

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.curricula.base import Curriculum, Episode, Task
from rl_rms.envs.curricula.ranges import check_box

Floats = npt.NDArray[np.float64]
# Maximum number of stored episodes, among which the nearest task is searched.
_REMEMBERED = 20_000


class ALPGMM(Curriculum):
    """Draws tasks from the regions in which returns change most.

    The absolute learning progress of an episode is the absolute difference between its return and the return of
    the earlier episode with the nearest task. The progress of the first episode is 0. Every ``fit_every``
    episodes, mixtures of 1 to ``max_components`` Gaussians are fitted to the tasks and progress of the last
    ``fit_every`` episodes. The mixture with the lowest Akaike information criterion is used. A Gaussian of the
    mixture is drawn in proportion to its mean progress, and a task is drawn from this Gaussian. Before the first
    fit, and in a share ``uniform`` of the episodes, tasks are drawn uniformly.

    Source: Portelas, Colas, Hofmann and Oudeyer, "Teacher algorithms for curriculum learning of deep RL in
    continuously parameterized environments" (CoRL 2019). The mixtures are scikit-learn's ``GaussianMixture``.

    Args:
        ranges: ``[low, high]`` of each target.
        fit_every: Number of episodes between two fits, and number of episodes in each fit, >= 10.
        uniform: Share of episodes whose task is drawn uniformly, in [0, 1].
        max_components: Maximum number of Gaussians, >= 1.

    Raises:
        ValueError: If an argument is invalid.
        ImportError: At the first fit, if scikit-learn is not installed.
    """

    name: ClassVar[str] = "alp_gmm"
    _places: list[list[float]]
    _returns: list[float]
    _progress: list[float]
    _gaussians: list[dict[str, Any]]
    _count: int

    def __init__(
        self, ranges: Mapping[str, Any], fit_every: int = 250, uniform: float = 0.2, max_components: int = 10
    ) -> None:
        self.ranges = check_box("ALPGMM: ranges", ranges)
        self.fit_every = check_int("ALPGMM: fit_every", fit_every, least=10, unit="episodes")
        self.uniform = check_number("ALPGMM: uniform", uniform, least=0, most=1)
        self.max_components = check_int("ALPGMM: max_components", max_components, least=1)
        low, high = np.array(list(self.ranges.values())).T
        self._low, self._width = low, high - low
        super().__init__()

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets of the ranges."""
        return tuple(self.ranges)

    @property
    def difficulty(self) -> float:
        """Mean position of the last ``fit_every`` tasks in their ranges, from 0 for low to 1 for high.

        Only tasks of finished episodes count. The difficulty is 0 before the first finished episode.
        """
        return float(np.mean(self._places[-self.fit_every :])) if self._places else 0.0

    def log(self) -> dict[str, float]:
        """Return the difficulty, the number of Gaussians, the mean progress, and the mean of each target.

        The means are over the last ``fit_every`` episodes. Before the first finished episode, there are no means.
        """
        scalars = {"difficulty": self.difficulty, "components": float(len(self._gaussians))}
        if self._places:
            scalars["progress"] = float(np.mean(self._progress[-self.fit_every :]))
            means = self._low + self._width * np.mean(self._places[-self.fit_every :], axis=0)
            scalars |= {f"mean/{target}": float(mean) for target, mean in zip(self.ranges, means, strict=True)}
        return scalars

    def _draw(self) -> tuple[Task, Any]:
        if not self._gaussians or self._random.random() < self.uniform:
            place = self._random.random(len(self.ranges))
        else:
            progress = np.array([one["progress"] for one in self._gaussians])
            total = progress.sum()
            chosen = self._random.choice(len(progress), p=progress / total if total > 0 else None)
            one = self._gaussians[chosen]
            place = np.clip(self._random.multivariate_normal(one["mean"], one["covariance"]), 0.0, 1.0)
        values = self._low + self._width * place
        return dict(zip(self.ranges, values.tolist(), strict=True)), place.tolist()

    def _learn(self, outcome: Episode, drawn: Any) -> None:
        if self._places:
            distances = np.sum((np.array(self._places) - drawn) ** 2, axis=1)
            # Of equally near tasks, the latest is used.
            nearest = len(distances) - 1 - int(np.argmin(distances[::-1]))
            progress = abs(outcome.episode_return - self._returns[nearest])
        else:
            progress = 0.0
        self._places.append(list(drawn))
        self._returns.append(outcome.episode_return)
        self._progress.append(progress)
        del self._places[:-_REMEMBERED], self._returns[:-_REMEMBERED], self._progress[:-_REMEMBERED]
        self._count += 1
        if self._count % self.fit_every == 0:
            self._gaussians = self._fit()
            self._note_change()

    def _fit(self) -> list[dict[str, Any]]:
        mixture_of = _gaussian_mixture()
        places = np.array(self._places[-self.fit_every :])
        progress = np.array(self._progress[-self.fit_every :])
        # Progress is scaled to [0, 1], like the tasks' positions.
        scale = progress.max() or 1.0
        points = np.column_stack([places, progress / scale])
        seed = int(self._random.integers(2**31))
        most = min(self.max_components, len(np.unique(points, axis=0)))
        with warnings.catch_warnings():
            # scikit-learn warns if a fit did not converge. Users need no warning, because the next fit soon
            # replaces the mixture.
            warnings.simplefilter("ignore")
            fitted = [mixture_of(number, random_state=seed).fit(points) for number in range(1, most + 1)]
        best = min(fitted, key=lambda one: one.aic(points))
        return [
            {
                "progress": max(float(mean[-1]), 0.0),
                "mean": mean[:-1].tolist(),
                "covariance": covariance[:-1, :-1].tolist(),
            }
            for mean, covariance in zip(best.means_, best.covariances_, strict=True)
        ]

    def _forget(self) -> None:
        self._places, self._returns, self._progress = [], [], []
        self._gaussians = []
        self._count = 0

    def _kept(self) -> dict[str, Any]:
        return {
            "places": [list(one) for one in self._places],
            "returns": list(self._returns),
            "progress": list(self._progress),
            "gaussians": [dict(one) for one in self._gaussians],
            "count": self._count,
        }

    def _keep(self, kept: Mapping[str, Any]) -> None:
        if kept["places"] and len(kept["places"][0]) != len(self.ranges):
            raise ValueError(
                f"the state was saved with {len(kept['places'][0])} targets, but this curriculum has "
                f"{len(self.ranges)}; make the same curriculum as when the state was saved"
            )
        self._places = [list(one) for one in kept["places"]]
        self._returns, self._progress = list(kept["returns"]), list(kept["progress"])
        self._gaussians = [dict(one) for one in kept["gaussians"]]
        self._count = int(kept["count"])


def _gaussian_mixture() -> Any:
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise ImportError("ALPGMM needs scikit-learn; install it with: pip install 'rl_rms[curricula]'") from error
    return GaussianMixture
