"""An AsyncVectorEnv that handles failing and hanging workers, and saves the states of the sub-environments."""

import math
import os
import signal
import time
from collections.abc import Callable, Container, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.utils import concatenate, iterate

from rl_rms.envs import gymnasium_internals
from rl_rms.envs.checked import Checked
from rl_rms.envs.config import OnEnvError
from rl_rms.envs.faults import EnvError, Fault, FaultLog, failure_info
from rl_rms.envs.gymnasium_internals import GRACE
from rl_rms.envs.restarts import INHERITED, check_restartable, is_set, reset_mask_of, savable, seeds_of

# A new worker also imports modules, so its first answer may take this many seconds more than the time limit.
STARTING = 60.0

Message = tuple[str, Any]


class ResilientAsyncVectorEnv(AsyncVectorEnv):
    """An AsyncVectorEnv that names or restarts failing sub-environments, and ends workers after ``env_timeout``.

    If a worker fails, either a new worker replaces it, or all workers are ended and `EnvError` is raised. If a new
    worker starts in a step, the transition of the failed worker is truncated, with the reward 0 and the new
    worker's first observation. ``info``, or ``final_info`` in SAME_STEP mode, contains ``rl_rms.restarted``. Each
    sub-environment gets wrappers that check the returned values and save the state within an episode. Workers
    ignore Ctrl-C.

    Args:
        env_fns: Functions that make the sub-environments.
        on_env_error: ``"raise"`` raises an error if a worker fails, and ``"restart"`` starts a new worker. An
            agent's ``on_env_error="restart"`` overrides ``"raise"``.
        env_timeout: Seconds that a worker may take for a step or a reset, None for no limit.
        **kwargs: Other arguments of AsyncVectorEnv.

    Attributes:
        fault_log: The counts of faults and restarts.
        env_timeout: Seconds that a worker may take for a step or a reset, None for no limit.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gym.Env[Any, Any]]],
        *,
        on_env_error: OnEnvError = "raise",
        env_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        self.env_timeout = env_timeout
        self.fault_log = FaultLog(len(env_fns), on_env_error)
        # The call whose results are pending: "reset", "step" or "call"; None if no call is pending.
        self._pending: str | None = None
        # Indices of the workers that have not answered the last message to them.
        self._asked: set[int] = set()
        self._message: Message = ("", None)
        self._options: dict[str, Any] | None = None
        # Errors that workers sent, by worker, until `_error` returns them.
        self._errors: dict[int, tuple[Exception, str]] = {}
        # New workers whose next step is a reset, because their last transition was truncated in NEXT_STEP mode.
        self._due: set[int] = set()
        # The first observation and info of each worker that started between two steps. The next step returns them.
        self._started: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._has_given_up = False
        # The last values of the attributes in INHERITED, which new workers get.
        self._inherited: dict[str, list[Any]] = {name: [None] * len(env_fns) for name in INHERITED}
        super().__init__([partial(_in_a_worker, make, os.getpid()) for make in env_fns], **kwargs)
        gymnasium_internals.check_attributes(self)
        if on_env_error == "restart":
            check_restartable(self)

    def reset_async(self, seed: Any = None, options: dict[str, Any] | None = None) -> None:
        """Ask the workers to begin episodes."""
        self._begin("reset_async")
        seeds = seeds_of(seed, self.num_envs)
        self.fault_log.seed(seeds)
        beginning, options = reset_mask_of(options, self.num_envs)
        self._options = options
        for i in range(self.num_envs):
            if beginning[i]:
                self._due.discard(i)
                self._started.pop(i, None)
            arguments = {"seed": seeds[i], "options": options}
            self._ask(i, ("reset", arguments) if beginning[i] else ("reset-noop", None))
        self._pending = "reset"

    def reset_wait(self, timeout: float | None = None) -> tuple[Any, dict[str, Any]]:
        """Return the batch of observations, and the infos of the new episodes."""
        self._end_pending("reset")
        answers = self._answers(self._limit(timeout))
        for i, fresh in self._restarted(_faults_in(answers)).items():
            answers[i] = fresh
        infos: dict[str, Any] = {}
        for i, (_, info) in enumerate(answers):
            infos = self._add_info(infos, info, i)
        return self._batch([answer[0] for answer in answers]), infos

    def step_async(self, actions: Any) -> None:
        """Send the workers their actions."""
        self._begin("step_async")
        each = list(iterate(self.action_space, actions))
        if len(each) != self.num_envs:
            raise ValueError(
                f"actions must have one action for each of {self.num_envs} sub-environments, got {len(each)}"
            )
        for i, action in enumerate(each):
            if i in self._due:
                self._ask(i, ("reset", {"seed": None, "options": None}))
            elif i not in self._started:
                self._ask(i, ("step", action))
        self._pending = "step"

    def step_wait(self, timeout: float | None = None) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Return the transitions of the workers."""
        self._end_pending("step")
        fresh, due = self._started, self._due
        self._started, self._due = {}, set()
        answers = self._answers(self._limit(timeout), without=fresh)
        faults = _faults_in(answers)
        if faults:
            fresh.update(self._restarted(faults))
        for i in {*fresh, *due}:
            observation, info = fresh[i] if i in fresh else answers[i]
            answers[i] = (observation, 0.0, False, False, info) if i in due else self._broken(i, observation, info)
        if any(self.fault_log.in_a_row):
            for i in set(range(self.num_envs)).difference(fresh, due):
                self.fault_log.in_a_row[i] = 0
        infos: dict[str, Any] = {}
        for i, answer in enumerate(answers):
            infos = self._add_info(infos, answer[4], i)
        observations, rewards, terminated, truncated, _ = zip(*answers, strict=True)
        return (
            self._batch(observations),
            np.array(rewards, dtype=np.float64),
            np.array(terminated, dtype=np.bool_),
            np.array(truncated, dtype=np.bool_),
            infos,
        )

    def call_async(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Ask the workers for an attribute, or for the result of a method."""
        self._begin("call_async")
        self._message = ("_call", (name, args, kwargs))
        for i in range(self.num_envs):
            self._ask(i, self._message)
        self._pending = "call"

    def call_wait(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Return the attribute, or the method's result, of each sub-environment."""
        self._end_pending("call")
        return tuple(self._retried(self._answers(timeout), [self._message] * self.num_envs))

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of each sub-environment."""
        if self._has_given_up:
            return  # after a failed evaluation, attributes are restored although the workers have ended
        self._begin("set_attr")
        if not isinstance(values, (list, tuple)):
            values = [values] * self.num_envs
        if len(values) != self.num_envs:
            raise ValueError(
                f"values must be one value, or a list or tuple with one value for each of {self.num_envs} "
                f"sub-environments, got {len(values)} values"
            )
        if name in self._inherited:
            self._inherited[name] = list(values)
        messages: list[Message] = [("_setattr", (name, value)) for value in values]
        for i, message in enumerate(messages):
            self._ask(i, message)
        self._retried(self._answers(None), messages)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """End the workers.

        If ``terminate`` is false and no answer is due, the workers first close their environments, within the time
        limit. Then all workers that have not ended are killed.
        """
        limit = self._limit(timeout)
        if not terminate and not self._asked:
            for i in range(self.num_envs):
                self._ask(i, ("close", None))
            self._answers(limit)
            end = _end_after(limit)
            for process in self.processes:
                process.join(None if end == math.inf else max(0.0, end - time.monotonic()))
        for i in range(self.num_envs):
            self._end(i)

    def _limit(self, timeout: float | None) -> float | None:
        return self.env_timeout if timeout is None else timeout

    def _begin(self, call: str) -> None:
        """Discard the answers to an interrupted call.

        Raises:
            AlreadyPendingCallError: If the results of another call are pending.
        """
        self._assert_is_running()
        if self._pending is not None:
            raise AlreadyPendingCallError(
                f"{call} must wait for the results of {self._pending}_async; call {self._pending}_wait first",
                self._pending,
            )
        end = _end_after(self.env_timeout)
        for i in sorted(self._asked):
            if isinstance(self._answer(i, end), Fault):
                self._end(i)

    def _end_pending(self, call: str) -> None:
        """Stop waiting for the results of a call, because its answers are read now.

        Raises:
            NoAsyncCallError: If the results of this call are not pending.
        """
        self._assert_is_running()
        if self._pending != call:
            raise NoAsyncCallError(f"{call}_wait needs a call of {call}_async before it", call)
        self._pending = None

    def _ask(self, i: int, message: Message) -> None:
        self._asked.add(i)
        try:
            self.parent_pipes[i].send(message)
        except OSError:
            pass  # the worker has ended, so `_answer` returns a fault
        except Exception:  # the message cannot be pickled, so nothing was sent
            self._asked.discard(i)
            raise

    def _answers(self, limit: float | None, without: Container[int] = ()) -> list[Any]:
        """Wait for each worker's answer or fault.

        Args:
            limit: Seconds for all workers together, None for no limit.
            without: Workers to which no message was sent.
        """
        end = _end_after(limit)
        return [None if i in without else self._answer(i, end) for i in range(self.num_envs)]

    def _answer(self, i: int, end: float) -> Any:
        """Return a worker's answer; a fault if the worker failed or has not answered at the time ``end``."""
        answer = self._received(i, end)
        # An interrupt, such as Ctrl-C, does not reach this line.
        self._asked.discard(i)
        return answer

    def _received(self, i: int, end: float) -> Any:
        pipe, process = self.parent_pipes[i], self.processes[i]
        try:
            if end < math.inf and not pipe.poll(max(0.0, end - time.monotonic())):
                limit = "the time limit" if self.env_timeout is None else f"env_timeout={self.env_timeout} seconds"
                return Fault(f"its worker (process {process.pid}) did not answer within {limit}")
            answer, is_good = pipe.recv()
        except (EOFError, OSError):
            process.join(GRACE)
            return Fault(f"its worker (process {process.pid}) {_end_of(process.exitcode)}")
        except Exception as error:
            return Fault.of(error)
        return answer if is_good else self._error(i)

    def _error(self, i: int) -> Fault:
        """Return a fault with the error that a worker reported."""
        while i not in self._errors:
            try:
                index, _, error, trace = self.error_queue.get(timeout=GRACE)
            except Exception:  # the worker's error cannot be pickled or unpickled
                return Fault("it raised an error that cannot be pickled; its worker may have printed the error")
            self._errors[index] = (error, trace)
        error, trace = self._errors.pop(i)
        self.processes[i].join(GRACE)  # the worker closes its environment
        error.__cause__ = _WorkerTracebackError(trace)
        return Fault.of(error, trace)

    def _batch(self, observations: Sequence[Any]) -> Any:
        if not self.shared_memory:
            self.observations = concatenate(self.single_observation_space, observations, self.observations)
        return deepcopy(self.observations) if self.copy else self.observations

    def _restarted(self, faults: dict[int, Fault]) -> dict[int, Any]:
        """Replace failed workers, and return the first observations and infos of the new workers.

        Raises:
            EnvError: If ``on_env_error`` is ``"raise"``, or a worker fails too many times in a row.
        """
        fresh: dict[int, Any] = {}
        while faults:
            try:
                self.fault_log.add(faults)
            except EnvError:
                self._give_up(faults)
                raise
            fresh.update({i: self._start(i) for i in faults})
            faults = {i: fresh[i] for i in faults if isinstance(fresh[i], Fault)}
        return fresh

    def _retried(self, answers: list[Any], messages: Sequence[Message]) -> list[Any]:
        """Restart workers that failed between two steps, repeat their messages, and return all answers."""
        faults = _faults_in(answers)
        while faults:
            for fault in faults.values():
                if fault.error is not None:  # the attribute or method raised an error, so a restart would not help
                    self._give_up(faults)
                    raise fault.error
            self._started.update(self._restarted(faults))
            self._due.difference_update(faults)
            for i in faults:
                self._ask(i, messages[i])
                answers[i] = self._answer(i, math.inf)
            faults = _faults_in(answers)
        return answers

    def _broken(
        self, i: int, observation: Any, info: dict[str, Any]
    ) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Return the truncated transition of a worker that failed."""
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._due.add(i)
        final = _row(self.observations, i) if self.shared_memory else observation
        info = failure_info(info, final, same_step=self.autoreset_mode is AutoresetMode.SAME_STEP)
        return observation, 0.0, False, True, info

    def _start(self, i: int) -> Any:
        """Replace a worker with a new one, and start an episode in it.

        Returns:
            Observation and info, or the new worker's fault.
        """
        self._end(i)
        memory = gymnasium_internals.start_worker(self, i, self.env_fns[i])
        values = {name: each[i] for name, each in self._inherited.items() if is_set(each[i])}
        reset = ("reset", {"seed": self.fault_log.seeds[i], "options": self._options})
        end = _end_after(self.env_timeout) + STARTING
        answer: Any = None
        for message in (*(("_setattr", one) for one in values.items()), reset):
            self._ask(i, message)
            answer = self._answer(i, end)
            if isinstance(answer, Fault):
                break
        del memory
        return answer

    def _give_up(self, faults: dict[int, Fault]) -> None:
        """Kill the failed workers, and close the other workers."""
        for i in faults:
            self._end(i)
        self.close_extras(timeout=GRACE)
        self._has_given_up = self.closed = True

    def _end(self, i: int) -> None:
        """Kill a worker."""
        self._asked.discard(i)
        self.parent_pipes[i].close()
        self.processes[i].kill()
        self.processes[i].join()


class _WorkerTracebackError(Exception):
    """The traceback of an error in a worker, as the cause of the same error in this process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _faults_in(answers: Sequence[Any]) -> dict[int, Fault]:
    return {i: answer for i, answer in enumerate(answers) if isinstance(answer, Fault)}


def _end_after(limit: float | None) -> float:
    """Return the reading of the monotonic clock after ``limit`` seconds; infinity if the limit is None."""
    return math.inf if limit is None else time.monotonic() + limit


def _end_of(exitcode: int | None) -> str:
    if exitcode is None:
        return "closed its pipe"
    if exitcode >= 0:
        return f"ended by itself, with exit status {exitcode}"
    name = signal.Signals(-exitcode).name if -exitcode in set(signal.Signals) else "unknown"
    killed = ", which the system sends when memory runs out" if name == "SIGKILL" else ""
    return f"was ended by signal {-exitcode} ({name}){killed}"


def _row(observations: Any, i: int) -> Any:
    if isinstance(observations, dict):
        return {key: _row(part, i) for key, part in observations.items()}
    if isinstance(observations, tuple):
        return tuple(_row(part, i) for part in observations)
    return np.array(observations[i])


def _in_a_worker(make: Callable[[], gym.Env[Any, Any]], parent: int) -> Checked:
    """Make a sub-environment. Its worker ignores Ctrl-C, which a terminal sends to all processes."""
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Checked(savable(make))
