from rl_rms.envs.schedules import Constant
from tests.envs.schedules.tables import error_test

test_wrong_argument_is_named = error_test(
    (lambda: Constant(1).delay(-1), ("Delay", "steps", ">= 0", "-1")),
    (lambda: Constant(1).during(5, 5), ("During", "start=5", "end=5")),
    (lambda: Constant(1).then(2, at=0), ("Then", "at", ">= 1", "0")),
    (lambda: Constant(1).then("x", at=5), ("Then", "schedule")),
)
