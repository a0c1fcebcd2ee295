import subprocess
import sys

import numpy as np

from rl_rms.envs.schedules import (
    Key,
    PoissonJumps,
    Redraw,
    stream_of,
)

KEY = Key(seed=7, stream=stream_of("gravity"), env_index=0)


def test_seed_target_and_env_index_each_choose_a_stream():
    schedule = Redraw(low=0, high=1, every=1)
    keys = [KEY, KEY._replace(seed=8), KEY._replace(stream=stream_of("length")), KEY._replace(env_index=1)]
    traces = np.array([schedule.values(np.arange(4_000), key) for key in keys])
    assert np.abs(np.corrcoef(traces) - np.eye(4)).max() < 0.06


def test_same_seed_in_another_process_gives_the_same_drift():
    program = (
        "from rl_rms.envs.schedules import *\n"
        "print(PoissonJumps(0, 1, 50).value(123_456, Key(7, stream_of('gravity'), 0)).hex())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == PoissonJumps(0, 1, 50).value(123_456, KEY).hex()
