import numpy as np

from rl_rms.envs.schedules import (
    Key,
    Sinusoid,
    stream_of,
)

KEY = Key(seed=7, stream=stream_of("gravity"), env_index=0)


def test_sinusoid_spectrum_has_its_period():
    values = Sinusoid(mean=9.8, amplitude=4, period=128).values(np.arange(4_096), KEY)
    assert np.argmax(np.abs(np.fft.rfft(values - values.mean()))) == 4_096 // 128
