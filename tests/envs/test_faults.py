import numpy as np
import pytest

from rl_rms.envs.faults import MAX_RESTARTS_IN_A_ROW, EnvError, Fault, FaultLog, broken_in
from tests.naming import mentions, naming


def test_fault_log_on_error_raise_names_numbers_seeds_and_cause():
    log = FaultLog(4)
    log.seed([10, 11, None, 13])
    error = ZeroDivisionError("nothing left")
    with pytest.raises(EnvError) as raised:
        log.add({1: Fault("it broke", error)})
    raised.value.when = " in step 3"
    assert mentions(
        str(raised.value), "sub-environment 1", "seed 11", "in step 3", "it broke", "on_env_error='restart'"
    )
    assert raised.value.__cause__ is error
    with pytest.raises(EnvError, match=naming("sub-environments 2 and 3", "seeds none and 13", "it broke")):
        log.add({2: Fault("it broke"), 3: Fault("it broke")})


def test_fault_log_counts_restarts_and_raises_after_five_in_a_row():
    log = FaultLog(3, "restart")
    log.seed([10, None, 12])
    for number in range(1, MAX_RESTARTS_IN_A_ROW + 1):
        with pytest.warns(UserWarning, match=naming("sub-environment 0", "seed", f"restart {number}")):
            log.add({0: Fault("it broke")})
    assert log.restarts == [5, 0, 0]
    assert log.seeds[0] != 10
    with pytest.raises(EnvError, match=naming("sub-environment 0", "restarted 5 times")):
        log.add({0: Fault("it broke"), 1: Fault("it broke")})
    again = FaultLog(3, "restart")
    again.load_state_dict(log.state_dict())
    again.in_a_row[0] = 0
    with pytest.warns(UserWarning, match=naming("restart 6")):
        again.add({0: Fault("it broke")})
    assert again.seeds[0] not in (10, log.seeds[0])


def test_broken_excludes_a_restart_at_a_reset():
    restarted = {"rl_rms.restarted": np.array([True, True])}
    assert broken_in(restarted, np.array([True, False])).tolist() == [True, False]
    assert broken_in(restarted, np.zeros(2, np.bool_)) is None
    assert broken_in({"restarted": np.array([True, True])}, np.ones(2, np.bool_)) is None
    assert broken_in({"final_info": restarted}, np.ones(2, np.bool_)).tolist() == [True, True]
