import inspect
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError
from gymnasium.vector import AsyncVectorEnv

from rl_rms.envs import EnvError, ResilientAsyncVectorEnv, ResilientSyncVectorEnv, make_vec, resilient_async
from rl_rms.envs.resilience import set_reaction
from rl_rms.envs.schedules import Linear
from tests.faulty import Faulty, fail_in_the_third_step
from tests.naming import naming

# Seconds that are enough for a worker on a busy machine. Only tests of hung workers wait this long.
TIMEOUT = 2.0


def vector(*envs, **kwargs):
    return ResilientAsyncVectorEnv([lambda kind=kind: Faulty(**kind) for kind in envs], **kwargs)


def play(env, num_steps, seed=7):
    """Observations, rewards, ends and restarts of some steps."""
    shown = [env.reset(seed=seed)[0]]
    ends = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(num_steps):
            observations, rewards, terminated, truncated, infos = env.step(np.zeros(env.num_envs, int))
            shown.append(observations)
            restarted = infos.get("final_info", infos).get("rl_rms.restarted", np.zeros(env.num_envs, bool))
            ends.append((rewards.tolist(), terminated.tolist(), truncated.tolist(), restarted.tolist()))
    env.close()
    return np.array(shown), ends


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("raise", "RuntimeError: the motor burnt .*faulty.py, line"),
        ("unpicklable", "it raised an error that cannot be pickled"),
        ("hang", rf"its worker \(process \d+\) did not answer within env_timeout={TIMEOUT} seconds"),
        ("kill", r"its worker \(process \d+\) was ended by signal 9 \(SIGKILL\), which the system"),
        ("exit", r"its worker \(process \d+\) ended by itself, with exit status 3"),
    ],
)
def test_step_fault_in_a_worker_raises_a_named_error_and_ends_all_workers(how, problem, monkeypatch):
    monkeypatch.setattr(resilient_async, "GRACE", 1.0)
    env = vector({}, {"how": how, "at": 3}, {}, env_timeout=TIMEOUT)
    error = fail_in_the_third_step(env, problem)
    if how == "raise":
        assert "in fail" in str(error.__cause__.__cause__)
    assert not any(process.is_alive() for process in env.processes)
    env.close()


def test_step_several_hung_workers_are_all_named():
    env = vector({"how": "hang", "at": 1}, {}, {"how": "hang", "at": 1}, env_timeout=TIMEOUT)
    env.reset(seed=7)
    with pytest.raises(EnvError, match=naming("sub-environments 0 and 2", "seeds 7 and 9")) as raised:
        env.step(np.zeros(3, int))
    assert raised.value.indices == (0, 2)
    assert not any(process.is_alive() for process in env.processes)


def test_reset_hung_worker_raises_a_named_error():
    env = vector({}, {"how": "hang", "at_reset": 1}, env_timeout=TIMEOUT)
    with pytest.raises(EnvError, match=naming("sub-environment 1", "answer")):
        env.reset(seed=7)


def test_step_wrong_shape_raises_before_it_is_written_into_shared_memory():
    env = make_vec("Faulty-v0", 2, vectorization_mode="async", how="shape", at=2)
    env.reset(seed=0)
    env.step(np.zeros(2, int))
    with pytest.raises(EnvError, match=naming("sub-environments 0 and 1", "observation", "(3,)")):
        env.step(np.zeros(2, int))


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("how", ["raise", "kill", "exit"])
def test_restart_equals_that_of_the_sync_class(mode, how):
    # Without autoreset, the first fault ends the test, because a reset would have to follow.
    num_steps, num_faults = {"NextStep": (9, 2), "SameStep": (9, 3), "Disabled": (3, 1)}[mode]
    kinds = {}, {"at": 3}, {}
    here = vector_here(*kinds, autoreset_mode=mode)
    failing = [{**kind, "how": how} for kind in kinds]
    there = vector(*failing, autoreset_mode=mode, on_env_error="restart")
    shown, ends = play(here, num_steps)
    again, ends_again = play(there, num_steps)
    assert ends_again == ends
    assert [row[3][1] for row in ends].count(True) == num_faults
    assert np.array_equal(again, shown)


@pytest.mark.parametrize(
    "kwargs", [{"context": "spawn"}, {"context": "forkserver"}, {"shared_memory": False}, {"copy": False}]
)
def test_restart_with_any_worker_option_equals_that_of_the_sync_class(kwargs):
    env = vector({}, {"how": "kill", "at": 3}, on_env_error="restart", **kwargs)
    shown, ends = play(env, 7)
    expected, expected_ends = play(vector_here({}, {"at": 3}), 7)
    assert ends == expected_ends
    if kwargs != {"copy": False}:
        assert np.array_equal(shown, expected)


def vector_here(*kinds, **kwargs):
    make = [lambda kind=kind: Faulty(**kind) for kind in kinds]
    return ResilientSyncVectorEnv(make, on_env_error="restart", **kwargs)


def test_step_hung_worker_is_replaced_and_the_others_continue():
    env = vector({}, {"how": "hang", "at": 3}, on_env_error="restart", env_timeout=TIMEOUT)
    hung = env.processes[1]
    shown, ends = play(env, 4)
    assert shown[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert shown[:, 1, 0].tolist() == [0, 1, 2, 0, 0]
    assert ends[2][2:] == ([False, True], [False, True])
    assert not hung.is_alive()


class Keyed(Faulty):
    """`Faulty` with a Dict observation that contains a Tuple."""

    observation_space = spaces.Dict({"a": Faulty.observation_space, "b": spaces.Tuple((spaces.Discrete(9),))})

    def observation(self):
        return {"a": super().observation(), "b": (self.count,)}


def test_restart_writes_into_the_shared_memory_of_nested_observations():
    env = ResilientAsyncVectorEnv([lambda: Keyed("kill", at=3)] * 2, on_env_error="restart")
    env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = [env.step(np.zeros(2, int))[0] for _ in range(5)]
    assert [one["b"][0].tolist() for one in shown] == [[1, 1], [2, 2], [0, 0], [0, 0], [1, 1]]
    assert [one["a"][1, 0] for one in shown] == [1, 2, 0, 0, 1]
    env.close()


def test_restart_keeps_parameter_values_and_clock():
    changes = {"reward.scale": Linear(0.0, 100.0, over=100)}
    env = make_vec("Faulty-v0", 2, changes, seed=0, vectorization_mode="async", how="kill", at=3)
    set_reaction(env, "restart")
    assert [row[0] for row in play(env, 6)[1]] == [[0, 0], [2, 2], [0, 0], [0, 0], [4, 4], [6, 6]]
    assert env.clock == 8


def test_get_attr_after_a_worker_died_restarts_it():
    env = vector({}, {}, on_env_error="restart")
    env.reset(seed=0)
    env.step(np.zeros(2, int))
    os.kill(env.processes[1].pid, signal.SIGKILL)
    env.processes[1].join()
    with pytest.warns(UserWarning, match=naming("sub-environment 1", "signal 9")):
        assert env.get_attr("count") == (1, 0)
    observations, _, _, truncated, infos = env.step(np.zeros(2, int))
    assert observations[:, 0].tolist() == [2, 0]
    assert truncated.tolist() == infos["rl_rms.restarted"].tolist() == [False, True]
    assert env.step(np.zeros(2, int))[0][:, 0].tolist() == [3, 0]
    assert env.step(np.zeros(2, int))[0][:, 0].tolist() == [4, 1]
    with pytest.raises(AttributeError, match="no_such_thing"):
        env.get_attr("no_such_thing")


def test_step_always_failing_environment_raises_after_five_restarts():
    env = vector({}, {"how": "exit", "at": 1}, on_env_error="restart")
    with pytest.raises(EnvError, match=naming("sub-environment 1", "restarted 5 times")):
        play(env, 20)
    assert not any(process.is_alive() for process in env.processes)


@pytest.mark.parametrize("actions", [np.zeros(1, int), np.zeros(3, int)])
def test_step_with_a_wrong_number_of_actions_raises_value_error(actions):
    env = vector({}, {})
    env.reset(seed=0)
    with pytest.raises(ValueError, match=naming("actions", "2 sub-environments", f"got {len(actions)}")):
        env.step(actions)
    assert env.step(np.zeros(2, int))[0][:, 0].tolist() == [1, 1]
    env.close()


@pytest.mark.parametrize("values", [[2.0], (2.0, 3.0, 4.0)])
def test_set_attr_with_a_wrong_number_of_values_raises_value_error(values):
    env = vector({}, {})
    with pytest.raises(ValueError, match=naming("values", "2 sub-environments", f"got {len(values)} values")):
        env.set_attr("level", values)
    assert env.get_attr("level") == (1.0, 1.0)
    env.close()


def test_value_that_cannot_be_pickled_leaves_the_workers_usable():
    env = vector({}, {}, env_timeout=60)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        env.set_attr("level", [lambda: 0, 2.0])
    assert env.get_attr("level") == (1.0, 1.0)
    assert env.fault_log.num_restarts == 0
    env.close()


def test_call_before_the_results_of_another_call_raises():
    env = vector({}, {})
    with pytest.raises(NoAsyncCallError, match="reset_async"):
        env.reset_wait()
    env.reset(seed=0)
    env.step_async(np.zeros(2, int))
    calls = (
        env.reset,
        lambda: env.get_attr("level"),
        lambda: env.set_attr("level", 2.0),
        lambda: env.step([0, 0]),
    )
    for call in calls:
        with pytest.raises(AlreadyPendingCallError, match="step_wait"):
            call()
    with pytest.raises(NoAsyncCallError, match="call_async"):
        env.call_wait()
    observations, rewards, *_ = env.step_wait()
    assert (observations[:, 0].tolist(), rewards.tolist()) == ([1, 1], [1, 1])
    env.close()


class Slow(Faulty):
    """The first step of the environment takes a second."""

    def step(self, action):
        time.sleep(0.0 if self.num_steps else 1.0)
        return super().step(action)


def test_reset_after_an_interrupted_step_begins_new_episodes():
    env = ResilientAsyncVectorEnv([Faulty, Slow, Slow])
    env.reset(seed=0)
    earlier = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            env.step(np.zeros(3, int))
    finally:
        signal.signal(signal.SIGALRM, earlier)
    assert env.get_attr("count") == (1, 1, 1)
    assert env.reset(seed=0)[0][:, 0].tolist() == [0, 0, 0]
    assert env.step(np.zeros(3, int))[0][:, 0].tolist() == [1, 1, 1]
    env.close()


def test_close_hung_worker_is_killed():
    env = vector({"how": "hang", "at": 1}, {}, env_timeout=TIMEOUT)
    env.reset(seed=0)
    env.step_async(np.zeros(2, int))
    env.close()
    assert not any(process.is_alive() for process in env.processes)


@pytest.mark.parametrize("how", ["hang", "kill", "raise"])
@pytest.mark.parametrize("on_error", ["raise", "restart"])
def test_exit_of_the_process_leaves_no_worker(how, on_error):
    program = f"""
        import os, signal, warnings
        import numpy as np
        from rl_rms.envs import ResilientAsyncVectorEnv
        from tests.faulty import Faulty, fail_in_the_third_step
        warnings.simplefilter("ignore")
        make = [lambda at=at: Faulty({how!r}, at=at) for at in (2, 3, None)]
        env = ResilientAsyncVectorEnv(make, on_env_error={on_error!r}, env_timeout=1.0)
        env.reset(seed=0)
        try:
            for _ in range(4):
                env.step(np.zeros(3, int))
        finally:
            print(*(process.pid for process in env.processes), flush=True)
            if {on_error!r} == "restart":
                os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == (-signal.SIGKILL if on_error == "restart" else 1), done.stderr
    # Workers hold the output open, so a worker that does not end makes subprocess.run time out.
    assert len(done.stdout.split()) == 3


def test_constructor_restart_with_max_concurrency_raises_value_error():
    if "max_concurrency" not in inspect.signature(AsyncVectorEnv).parameters:
        pytest.skip("this Gymnasium has no max_concurrency")
    with pytest.raises(ValueError, match=naming("on_env_error='restart'", "max_concurrency")):
        vector({}, on_env_error="restart", max_concurrency=1)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_make_vec_reset_without_info_raises_a_named_error(mode):
    class Bare(Faulty):
        def reset(self, **options):
            return super().reset(**options)[0]

    spec = EnvSpec("Bare-v0", Bare, disable_env_checker=True, order_enforce=False)
    env = make_vec(spec, 2, vectorization_mode=mode)
    with pytest.raises(EnvError, match=naming("reset()", "(observation, info)", "ndarray")):
        env.reset(seed=0)
    env.close()
