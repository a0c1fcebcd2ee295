"""Names of the entries that rl_rms adds to ``info`` and reads from the options of a reset.

The prefix prevents conflicts with entries of environments.
"""

REGIME = "rl_rms.regime"
"""Entry of ``info``: the number of regime changes so far."""
CLOCK = "rl_rms.clock"
"""Option of ``reset``: the new reading of the clock, in env steps."""
RESTARTED = "rl_rms.restarted"
"""Entry of ``info``: whether the sub-environment failed and was created again."""
