"""Workers of an AsyncVectorEnv that fail, end or do not answer, and the others that go on beside them."""

import inspect
import math
import multiprocessing
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from multiprocessing.sharedctypes import synchronized
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import AsyncState, _async_worker
from gymnasium.vector.utils import CloudpickleWrapper, clear_mpi_env_vars, concatenate, iterate

from rl_rms.envs.faults import (
    LASTING,
    EnvError,
    Fault,
    Watch,
    fault_of,
    is_set,
    reset_mask_of,
    seeds_of,
)
from rl_rms.envs.keys import RESTARTED

# Seconds that something which is only due after a fault may take: a worker's error, its end, the others' end.
GRACE = 5.0
# Seconds beyond the time limit that a new worker may take to begin, which a module's import is part of.
BEGINNING = 60.0

Message = tuple[str, Any]


class WatchedAsync(AsyncVectorEnv):
    """An AsyncVectorEnv whose workers' faults are found; `rl_rms.envs.faults.watch` makes it of one that there is.

    A worker that failed is ended and another one begun in its place, or all are ended and `EnvError` is raised.
    A transition in which a worker failed is truncated, shows the first observation of the new one's episode, and
    has ``rl_rms.restarted`` in its info.
    """

    fault_watch: Watch

    def begin_watch(self) -> None:
        """Set up what the watch needs, in place of a constructor."""
        self._message: Message = ("", None)
        self._options: dict[str, Any] | None = None
        # Errors that other workers sent, by worker.
        self._errors: dict[int, tuple[Exception, str]] = {}
        # Workers whose next step is to be a reset, as the one that they stand in for would have made it.
        self._due: set[int] = set()
        # What workers that were begun between two steps showed, of which the next step is to tell.
        self._begun: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._is_given_up = False
        # What the workers' environments were told last, for new ones.
        self._lasting: dict[str, list[Any]] = {}
        if all(self.call("has_wrapper_attr", "parameter_targets")):
            self._lasting = {name: list(self.call(name)) for name in LASTING}

    # -- what users call ----------------------------------------------------------------------------------

    def reset_async(self, seed: Any = None, options: dict[str, Any] | None = None) -> None:
        """Tell the workers to begin episodes."""
        self._assert_is_running()
        seeds = seeds_of(seed, self.num_envs)
        self.fault_watch.seed(seeds)
        beginning, options = reset_mask_of(options, self.num_envs)
        self._options = options
        for i in range(self.num_envs):
            if beginning[i]:
                self._due.discard(i)
                self._begun.pop(i, None)
            arguments = {"seed": seeds[i], "options": options}
            self._ask(i, ("reset", arguments) if beginning[i] else ("reset-noop", None))
        self._state = AsyncState.WAITING_RESET

    def reset_wait(self, timeout: float | None = None) -> tuple[Any, dict[str, Any]]:
        """What the workers' new episodes show."""
        answers = self._answers(self._limit(timeout))
        for i, fresh in self._mended(_faults_in(answers)).items():
            answers[i] = fresh
        infos: dict[str, Any] = {}
        for i, (_, info) in enumerate(answers):
            infos = self._add_info(infos, info, i)
        return self._shown([answer[0] for answer in answers]), infos

    def step_async(self, actions: Any) -> None:
        """Tell the workers their actions."""
        self._assert_is_running()
        for i, action in enumerate(iterate(self.action_space, actions)):
            if i in self._due:
                self._ask(i, ("reset", {"seed": None, "options": None}))
            elif i not in self._begun:
                self._ask(i, ("step", action))
        self._state = AsyncState.WAITING_STEP

    def step_wait(self, timeout: float | None = None) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """What the workers' transitions brought."""
        fresh, due = self._begun, self._due
        self._begun, self._due = {}, set()
        answers = self._answers(self._limit(timeout), without=fresh)
        faults = _faults_in(answers)
        if faults:
            fresh.update(self._mended(faults))
        for i in {*fresh, *due}:
            observation, info = fresh.get(i, answers[i])
            answers[i] = (observation, 0.0, False, False, info) if i in due else self._broken(i, observation, info)
        if any(self.fault_watch.in_a_row):
            for i in set(range(self.num_envs)).difference(fresh, due):
                self.fault_watch.in_a_row[i] = 0
        infos: dict[str, Any] = {}
        for i, answer in enumerate(answers):
            infos = self._add_info(infos, answer[4], i)
        observations, rewards, terminated, truncated, _ = zip(*answers, strict=True)
        return (
            self._shown(observations),
            np.array(rewards, dtype=np.float64),
            np.array(terminated, dtype=np.bool_),
            np.array(truncated, dtype=np.bool_),
            infos,
        )

    def call_async(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Tell the workers to call something of their environments."""
        self._assert_is_running()
        self._message = ("_call", (name, args, kwargs))
        for i in range(self.num_envs):
            self._ask(i, self._message)
        self._state = AsyncState.WAITING_CALL

    def call_wait(self, timeout: float | None = None) -> tuple[Any, ...]:
        """What the calls gave."""
        return tuple(self._asked_again(self._answers(timeout), [self._message] * self.num_envs))

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of each environment."""
        if self._is_given_up:
            return  # what is put back after a failed evaluation has nobody to be told to
        self._assert_is_running()
        if not isinstance(values, (list, tuple)):
            values = [values] * self.num_envs
        if name in self._lasting:
            self._lasting[name] = list(values)
        messages: list[Message] = [("_setattr", (name, value)) for value in values]
        for i, message in enumerate(messages):
            self._ask(i, message)
        self._asked_again(self._answers(None), messages)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """End the workers: those that are idle in their own way, within the time limit, the others at once."""
        limit = self._limit(timeout)
        if not terminate and self._state is AsyncState.DEFAULT:
            for i in range(self.num_envs):
                self._ask(i, ("close", None))
            self._answers(limit)
            end = _end_after(limit)
            for process in self.processes:
                process.join(None if end == math.inf else max(0.0, end - time.monotonic()))
        for i in range(self.num_envs):
            self._end(i)

    # -- what goes between here and the workers -----------------------------------------------------------

    def _limit(self, timeout: float | None) -> float | None:
        return self.fault_watch.timeout if timeout is None else timeout

    def _ask(self, i: int, message: Message) -> None:
        # That a worker has ended is found when its answer is waited for.
        with suppress(OSError):
            self.parent_pipes[i].send(message)

    def _answers(self, limit: float | None, without: Any = ()) -> list[Any]:
        """Each worker's answer, or its fault.

        Args:
            limit: Seconds that all may take, None for ever.
            without: Workers that were not asked.
        """
        end = _end_after(limit)
        answers = [None if i in without else self._answer(i, end) for i in range(self.num_envs)]
        self._state = AsyncState.DEFAULT
        return answers

    def _answer(self, i: int, end: float) -> Any:
        """A worker's answer, or its fault; ``end`` is when it is to be here."""
        pipe, process = self.parent_pipes[i], self.processes[i]
        try:
            if end < math.inf and not pipe.poll(max(0.0, end - time.monotonic())):
                return Fault(
                    f"its worker (process {process.pid}) did not answer within env_timeout="
                    f"{self.fault_watch.timeout} seconds"
                )
            answer, is_good = pipe.recv()
        except (EOFError, OSError):
            process.join(GRACE)
            return Fault(f"its worker (process {process.pid}) {_end_of(process.exitcode)}")
        except Exception as error:
            return fault_of(error)
        return answer if is_good else self._error(i)

    def _error(self, i: int) -> Fault:
        """The error that a worker says it has sent."""
        while i not in self._errors:
            try:
                index, _, error, trace = self.error_queue.get(timeout=GRACE)
            except Exception:  # not sent, since it cannot be pickled, or cannot be made of what was sent
                return Fault("it raised an error that could not be brought here; its worker has printed it, maybe")
            self._errors[index] = (error, trace)
        error, trace = self._errors.pop(i)
        self.processes[i].join(GRACE)  # it has its environment to close
        error.__cause__ = _WorkerTracebackError(trace)
        return fault_of(error, trace)

    def _shown(self, observations: Sequence[Any]) -> Any:
        """The observations, wherever they came from."""
        if not self.shared_memory:
            self.observations = concatenate(self.single_observation_space, observations, self.observations)
        return deepcopy(self.observations) if self.copy else self.observations

    # -- faults -------------------------------------------------------------------------------------------

    def _mended(self, faults: dict[int, Fault]) -> dict[int, Any]:
        """What new workers in the places of those that failed showed and told at their first reset.

        Raises:
            EnvError: If there are to be none, or they fail too.
        """
        fresh: dict[int, Any] = {}
        while faults:
            try:
                self.fault_watch.meet(faults)
            except EnvError:
                self._give_up(faults)
                raise
            fresh.update({i: self._begin(i) for i in faults})
            faults = {i: fresh[i] for i in faults if isinstance(fresh[i], Fault)}
        return fresh

    def _asked_again(self, answers: list[Any], messages: Sequence[Message]) -> list[Any]:
        """The answers, those of new workers in the places of the ones that failed between two steps."""
        faults = _faults_in(answers)
        while faults:
            for fault in faults.values():
                if fault.error is not None:  # not the environment's failure, but what was asked for was wrong
                    self._give_up(faults)
                    raise fault.error
            self._begun.update(self._mended(faults))
            self._due.difference_update(faults)
            for i in faults:
                self._ask(i, messages[i])
                answers[i] = self._answer(i, math.inf)
            faults = _faults_in(answers)
        return answers

    def _broken(
        self, i: int, observation: Any, info: dict[str, Any]
    ) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """A transition in which a worker failed."""
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            final = _row(self.observations, i) if self.shared_memory else observation
            info = {"final_obs": final, "final_info": {RESTARTED: True}, **info}
        else:
            info = {**info, RESTARTED: True}
            if self.autoreset_mode is AutoresetMode.NEXT_STEP:
                self._due.add(i)
        return observation, 0.0, False, True, info

    def _begin(self, i: int) -> Any:
        """Begin a worker in the place of another one, and an episode in it.

        Returns:
            Observation and info, or the new one's fault.
        """
        self._end(i)
        context: Any = multiprocessing.get_context(self.context)
        here, there = context.Pipe()
        worker = self.worker or _async_worker
        memory = _memory(self.single_observation_space, self.observations, context) if self.shared_memory else None
        arguments = [
            i,
            CloudpickleWrapper(self.env_fns[i]),
            there,
            here,
            memory,
            self.error_queue,
            self.autoreset_mode,
        ]
        arguments += [None] * (len(inspect.signature(worker).parameters) - len(arguments))
        process = context.Process(target=worker, name=f"Worker<{type(self).__name__}>-{i}", args=arguments)
        process.daemon = self.daemon
        with clear_mpi_env_vars():
            process.start()
        there.close()
        self.parent_pipes[i], self.processes[i] = here, process
        told = [("_setattr", (name, values[i])) for name, values in self._lasting.items() if is_set(values[i])]
        reset = ("reset", {"seed": self.fault_watch.seeds[i], "options": self._options})
        end = _end_after(self.fault_watch.timeout) + BEGINNING
        answer: Any = None
        for message in (*told, reset):
            self._ask(i, message)
            answer = self._answer(i, end)
            if isinstance(answer, Fault):
                break
        return answer

    def _give_up(self, faults: dict[int, Fault]) -> None:
        """End all workers."""
        for i in faults:
            self._end(i)
        self.close_extras(timeout=GRACE)
        self._is_given_up = self.closed = True

    def _end(self, i: int) -> None:
        """End a worker, whatever it is doing."""
        self.parent_pipes[i].close()
        self.processes[i].kill()
        self.processes[i].join()


class _WorkerTracebackError(Exception):
    """An error's traceback in the process that it was raised in, as its cause here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _faults_in(answers: Sequence[Any]) -> dict[int, Fault]:
    return {i: answer for i, answer in enumerate(answers) if isinstance(answer, Fault)}


def _end_after(limit: float | None) -> float:
    """When so many seconds are over, by the monotonic clock; None is never."""
    return math.inf if limit is None else time.monotonic() + limit


def _end_of(exitcode: int | None) -> str:
    if exitcode is None:
        return "closed its pipe"
    if exitcode >= 0:
        return f"ended by itself, with exit status {exitcode}"
    name = signal.Signals(-exitcode).name if -exitcode in set(signal.Signals) else "unknown"
    killed = ", as the system ends a process where memory runs out" if name == "SIGKILL" else ""
    return f"was ended by signal {-exitcode} ({name}){killed}"


def _memory(space: Any, observations: Any, context: Any) -> Any:
    """The memory in which workers write their observations, which only its arrays are left of."""
    if isinstance(space, spaces.Dict):
        return {key: _memory(part, observations[key], context) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_memory(part, observations[i], context) for i, part in enumerate(space))
    memory = observations
    while isinstance(memory, np.ndarray):
        memory = memory.base
    return synchronized(memory, ctx=context)


def _row(observations: Any, i: int) -> Any:
    if isinstance(observations, dict):
        return {key: _row(part, i) for key, part in observations.items()}
    if isinstance(observations, tuple):
        return tuple(_row(part, i) for part in observations)
    return np.array(observations[i])
