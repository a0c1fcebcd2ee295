"""Adds up chosen entries of ``info`` over env steps, to log their means."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.agents.workers import ALONE, Workers
from rl_rms.envs.notices import Notices

Bools = npt.NDArray[np.bool_]


class InfoSums:
    """Adds up entries of ``info`` over the transitions of a vector environment.

    Args:
        names: Names of the entries. ``"episode.r"`` is the entry ``r`` of the dictionary ``info["episode"]``,
            unless ``info`` itself has an entry of that name.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        # The sum of each entry, and the number of transitions that have this entry.
        self._sums = np.zeros((2, len(names)))
        # Entries for which no transition has had a value yet.
        self._unseen = set(names)
        self._notices = Notices()

    def pop_means(self, workers: Workers = ALONE) -> dict[str, float]:
        """Return each entry's mean since the last call, over all workers. Entries without a value are omitted."""
        totals, counts = workers.sum(self._sums)
        self._sums = np.zeros_like(self._sums)
        return {
            name: float(total / count)
            for name, total, count in zip(self._names, totals, counts, strict=True)
            if count
        }

    def add(
        self, info: Mapping[str, Any], valid: Bools, done: Bools, final_info: Mapping[str, Any] | None
    ) -> None:
        """Add the transitions of a vector step.

        Args:
            info: The infos of the step.
            valid: Whether each sub-environment's step is a transition, shape ``(num_envs,)``.
            done: Whether each transition is the last of its episode, shape ``(num_envs,)``.
            final_info: With same-step autoreset, the infos of the transitions that end an episode; None if no
                episode ends, or with another autoreset mode. With same-step autoreset, ``info`` belongs to the
                next episode of each sub-environment whose episode ends.
        """
        parts = [(info, valid)] if final_info is None else [(info, valid & ~done), (final_info, valid & done)]
        for column, name in enumerate(self._names):
            for part, where in parts:
                self._add(column, name, part, where)
        if self._unseen and (valid & done).any():
            self._warn_of_unseen([part for part, _ in parts])

    def _add(self, column: int, name: str, info: Mapping[str, Any], where: Bools) -> None:
        found = _find(info, name)
        if found is None:
            return
        values, has_value = found
        where = where if has_value is None else where & has_value
        if not where.any():
            return
        self._unseen.discard(name)
        try:
            numbers = np.asarray(values[where], dtype=np.float64)
        except (TypeError, ValueError):
            numbers = None
        if numbers is None or numbers.ndim != 1:
            self._notices.give(
                f"log_info has {name!r}, but its value in info must be a number, got {values[where][0]!r}; remove "
                "the name from log_info"
            )
            return
        self._sums[:, column] += numbers.sum(), len(numbers)

    def _warn_of_unseen(self, infos: Sequence[Mapping[str, Any]]) -> None:
        there = sorted({name for info in infos for name in _names_in(info)})
        for name in sorted(self._unseen):
            close = difflib.get_close_matches(name, there, n=1)
            mend = f"did you mean {close[0]!r}?" if close else f"info has {', '.join(there) or 'no entries'}"
            self._notices.give(f"log_info has {name!r}, but no info of the first episode has it; {mend}")
        self._unseen.clear()


def _find(info: Mapping[str, Any], name: str) -> tuple[npt.NDArray[Any], Bools | None] | None:
    """An entry's values and the mask of the sub-environments with a value (None for all), or None if missing."""
    *path, last = [name] if name in info else name.split(".")
    part: Any = info
    # Gymnasium's vector wrappers give a dictionary a single mask for all of its entries.
    mask: Any = None
    for key in path:
        if not isinstance(part, Mapping):
            return None
        part, mask = part.get(key), part.get(f"_{key}")
    if not isinstance(part, Mapping):
        return None
    values, mask = part.get(last), part.get(f"_{last}", mask)
    return (values, mask) if isinstance(values, np.ndarray) and values.ndim else None


def _names_in(info: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in info.items():
        if isinstance(value, Mapping):
            yield from _names_in(value, f"{before}{name}.")
        elif not name.startswith("_") and name not in ("final_obs", "final_info"):
            yield f"{before}{name}"
