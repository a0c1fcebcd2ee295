"""Failing sub-environments: an error that names the sub-environments, and counters of their restarts.

A sub-environment fails if it raises an error, or if it returns a value that `rl_rms.envs.checked` rejects, such as
an observation of a wrong shape. A sub-environment in a worker also fails if the worker ends or does not answer in
time.
"""

import re
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.envs.config import OnEnvError
from rl_rms.envs.keys import RESTARTED
from rl_rms.envs.seeds import derive_seeds

# Maximum number of restarts of a sub-environment without a valid step between them. After this number of
# restarts, the next failure raises `EnvError`.
MAX_RESTARTS_IN_A_ROW = 5


class EnvError(RuntimeError):
    """The error that is raised if sub-environments fail and are not restarted.

    Args:
        indices: Indices of the sub-environments that failed.
        seeds: The seed of each sub-environment's last seeded reset; None if no reset was seeded, or if the seed is
            unknown.
        problem: The cause in words.
        mend: The remedy in words.

    Attributes:
        when: Text about the step in which the sub-environments failed, for the message; empty until the code that
            counts the steps sets the text.
    """

    def __init__(self, indices: Sequence[int], seeds: Sequence[int | None], problem: str, mend: str) -> None:
        super().__init__(indices, seeds, problem, mend)
        self.indices, self.seeds, self.problem, self.mend = tuple(indices), tuple(seeds), problem, mend
        self.when = ""

    def __str__(self) -> str:
        many = len(self.indices) > 1
        numbers = " and ".join(map(str, self.indices))
        seeds = " and ".join("none" if seed is None else str(seed) for seed in self.seeds)
        who = f"sub-environment{'s' if many else ''} {numbers} (seed{'s' if many else ''} {seeds})"
        return f"{who} failed{self.when}: {self.problem}; {self.mend}"


@dataclass(frozen=True)
class Fault:
    """The failure of one sub-environment.

    Attributes:
        problem: The cause in words.
        error: The error that the sub-environment raised; None if it raised no error.
    """

    problem: str
    error: Exception | None = None

    @classmethod
    def of(cls, error: Exception, trace: str = "") -> "Fault":
        """Describe an error and the line of code that raised it.

        Args:
            error: The error.
            trace: The traceback as text, if the error was raised in another process.
        """
        if trace:
            places = re.findall(r'File "(.+)", line (\d+)', trace)
        else:
            places = [(frame.filename, str(frame.lineno)) for frame in traceback.extract_tb(error.__traceback__)]
        # An error raised in this folder usually comes from a check of a returned value. The line of the check says
        # nothing about the cause, so the message leaves the line out.
        is_own = not places or Path(places[-1][0]).parent == Path(__file__).parent
        where = "" if is_own else f" ({places[-1][0]}, line {places[-1][1]})"
        return cls(f"{type(error).__name__}: {error}{where}", error)


class FaultLog:
    """Counts the failures of a vector environment's sub-environments, and raises errors or warns about them.

    Args:
        num_envs: Number of sub-environments.
        on_env_error: ``"raise"`` or ``"restart"``.

    Attributes:
        on_env_error: ``"raise"`` or ``"restart"``.
        first_index: Index that errors and warnings give to the first sub-environment.
        seeds: The seed of each sub-environment's last seeded reset; None if no reset was seeded. A restart
            replaces a known seed.
        restarts: Restarts of each sub-environment.
        num_restarts: Restarts of all sub-environments together.
        in_a_row: Restarts of each sub-environment since its last valid step.
    """

    def __init__(self, num_envs: int, on_env_error: OnEnvError = "raise") -> None:
        self.on_env_error: OnEnvError = on_env_error
        self.first_index = 0
        self.seeds: list[int | None] = [None] * num_envs
        self.restarts = [0] * num_envs
        self.num_restarts = 0
        self.in_a_row = [0] * num_envs

    def seed(self, seeds: Sequence[int | None]) -> None:
        """Record the seeds of a reset; None keeps the earlier seed."""
        self.seeds = [old if new is None else new for old, new in zip(self.seeds, seeds, strict=True)]

    def add(self, faults: Mapping[int, Fault]) -> None:
        """Count faults, warn about each fault, and replace the known seeds of the failed sub-environments.

        Raises:
            EnvError: If ``on_env_error`` is ``"raise"``, or a sub-environment failed too many times in a row.
        """
        hopeless = [index for index in faults if self.in_a_row[index] >= MAX_RESTARTS_IN_A_ROW]
        if self.on_env_error == "raise" or hopeless:
            raise self._error({index: faults[index] for index in hopeless or faults}, is_hopeless=bool(hopeless))
        for index, fault in faults.items():
            self.restarts[index] += 1
            self.num_restarts += 1
            self.in_a_row[index] += 1
            warnings.warn(
                f"sub-environment {self.first_index + index} (seed {self.seeds[index]}) failed and is restarted "
                f"(restart {self.restarts[index]}): {fault.problem}",
                stacklevel=2,
            )
            if self.seeds[index] is not None:
                # With the old seed, the same random numbers could cause the same fault again.
                self.seeds[index] = derive_seeds((self.seeds[index] or 0, self.restarts[index]))[0]

    def _error(self, faults: Mapping[int, Fault], *, is_hopeless: bool) -> EnvError:
        mend = "fix the environment, or restart it after each failure with on_env_error='restart'"
        if is_hopeless:
            times = f"{MAX_RESTARTS_IN_A_ROW} times in a row"
            mend = f"fix the environment, which was restarted {times} without a valid step"
        problem = "; ".join(dict.fromkeys(fault.problem for fault in faults.values()))
        numbers = [self.first_index + index for index in faults]
        error = EnvError(numbers, [self.seeds[index] for index in faults], problem, mend)
        error.__cause__ = next(iter(faults.values())).error
        return error

    def state_dict(self) -> dict[str, Any]:
        """Return the seeds and the counts as plain JSON data."""
        return {"seeds": list(self.seeds), "restarts": list(self.restarts), "in_a_row": list(self.in_a_row)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        # The lists are changed in place, because the environment may refer to them.
        self.seeds[:], self.restarts[:] = state["seeds"], state["restarts"]
        self.in_a_row[:] = state["in_a_row"]
        self.num_restarts = sum(self.restarts)


def failure_info(info: Mapping[str, Any], final: Any, *, same_step: bool) -> dict[str, Any]:
    """Return the info of a truncated transition of a sub-environment that failed, for `broken_in`.

    Args:
        info: The info of the new sub-environment's first observation.
        final: The last observation before the failure.
        same_step: Whether the autoreset mode is SAME_STEP.
    """
    if same_step:
        return {"final_obs": final, "final_info": {RESTARTED: True}, **info}
    return {**info, RESTARTED: True}


def broken_in(infos: Mapping[str, Any], truncated: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    """Return a mask of the sub-environments that failed in a transition; None if none failed in a transition.

    Args:
        infos: Infos of the vector step.
        truncated: Truncations of the vector step. A sub-environment that failed at a reset is not truncated.
    """
    ended = infos.get("final_info", infos)
    if RESTARTED not in ended:
        return None
    broken: npt.NDArray[np.bool_] = truncated & np.asarray(ended[RESTARTED], dtype=np.bool_)
    return broken if broken.any() else None
