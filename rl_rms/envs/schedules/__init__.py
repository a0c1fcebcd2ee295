"""Schedules of a parameter over time: immutable, pure functions of clock and key.

The clock counts env steps. The key identifies the stream of random numbers; see `Key`. A schedule has no state.
Its values can therefore be computed at any clock and in any order, and equal keys give equal values. A resumed run
continues the values exactly.

- constant, or with jumps at given times: `Constant`, `Step`, `PiecewiseConstant`
- smooth transitions: `Linear`, `Cosine`, `Exponential`, `Sigmoid`
- periodic: `Sinusoid`, `Square`, `Sawtooth`
- random levels: `Redraw`, `PoissonJumps`, `Markov`
- bursts at regular or random times: `Burst`
- bursts that depend on the agent's returns: `AdversarialBurst`
- random walks: `OrnsteinUhlenbeck`, `RandomWalk`
- recorded or computed: `Trace`, `Function`
- combinations: ``s1 + s2`` (`Sum`), ``s1 * s2`` (`Product`), ``s.clip(low, high)`` (`Clip`),
  ``s.reflect(low, high)`` (`Reflect`), ``s.delay(steps)`` (`Delay`), ``s.ahead(steps)`` (`Ahead`),
  ``s.during(start, end)`` (`During`), ``s.then(s2, at)`` (`Then`)

``amplitude`` is half of the range between the bounds, or a standard deviation over time if a bound is infinite.

``timescale`` is the autocorrelation time tau in env steps. Suppose that the value has the autocovariance
``S exp(-k / tau)``, and that each env step gives a measurement with the noise variance ``R``. Then the exponential
average with the least mean squared error has a half-life of nearly ``ln 2 * tau / (sqrt(2 tau S / R) - 1)`` env
steps, or an infinite half-life if ``2 tau S / R <= 1``. An Ornstein-Uhlenbeck process has exactly this
autocovariance. Jumps at random times to independent levels have nearly this autocovariance. The other schedules
document their tau. The method ``half_life`` applies this law, the law of ramps or the law of sinusoids, and
returns a half-life in updates.
"""

from rl_rms.envs.schedules.adversarial import AdversarialBurst
from rl_rms.envs.schedules.algebra import Clip, Product, Reflect, Sum
from rl_rms.envs.schedules.base import SCHEDULES, Schedule, as_schedules
from rl_rms.envs.schedules.diffusion import OrnsteinUhlenbeck, RandomWalk
from rl_rms.envs.schedules.jumps import Burst, PoissonJumps, Redraw
from rl_rms.envs.schedules.levels import Constant, PiecewiseConstant, Step
from rl_rms.envs.schedules.markov import Markov
from rl_rms.envs.schedules.periodic import Sawtooth, Sinusoid, Square
from rl_rms.envs.schedules.recorded import Function, Trace
from rl_rms.envs.schedules.rng import Floats, Ints, Key, stream_of
from rl_rms.envs.schedules.timing import Ahead, Delay, During, Then
from rl_rms.envs.schedules.transitions import Cosine, Exponential, Linear, Sigmoid

__all__ = [
    "SCHEDULES",
    "AdversarialBurst",
    "Ahead",
    "Burst",
    "Clip",
    "Constant",
    "Cosine",
    "Delay",
    "During",
    "Exponential",
    "Floats",
    "Function",
    "Ints",
    "Key",
    "Linear",
    "Markov",
    "OrnsteinUhlenbeck",
    "PiecewiseConstant",
    "PoissonJumps",
    "Product",
    "RandomWalk",
    "Redraw",
    "Reflect",
    "Sawtooth",
    "Schedule",
    "Sigmoid",
    "Sinusoid",
    "Square",
    "Step",
    "Sum",
    "Then",
    "Trace",
    "as_schedules",
    "stream_of",
]
