import pytest

from rl_rms.studies import load
from rl_rms.studies.lr_schedule import ratio

pytestmark = pytest.mark.slow

STUDY = load("lr_schedule")


def test_high_rate_in_noise_raises_the_loss(quick):
    sgd, short, long = (
        ratio(quick, by=by, period=40) for by in ("SGD", "RMSprop, 4 updates", "RMSprop, 69 updates")
    )
    assert sgd.low > 1.2
    assert long.low > 1.2
    assert short.middle < long.middle
    assert "69 updates" in str(STUDY.verdict(quick))
