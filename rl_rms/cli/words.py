"""What a run's log says, in sentences for somebody who never saw one; every number in them is computed from it."""

import math
from collections.abc import Sequence
from statistics import fmean, median, quantiles

from rl_rms.cli.regimes import RegimeReturns
from rl_rms.cli.runs import RETURN, Log, Run
from rl_rms.cli.tracking import Following

_FEW = 0.05
_MOST = 0.95


def describe_result(log: Log) -> str:
    """What it earned, at the end and at best."""
    steps, returns = log.series(RETURN)
    best = max(range(len(returns)), key=returns.__getitem__)
    return (
        f"After {log.steps[-1]:,.0f} env steps the mean return of the last episodes was {returns[-1]:,.1f}; the "
        f"best was {returns[best]:,.1f}, first at env step {steps[best]:,.0f}."
    )


def describe_memory(run: Run) -> str:
    """The half-life in force."""
    steps, half_lives = run.series("optim/half_life_updates")
    if not half_lives:
        return f"The optimizer, {run.config.agent.optimizer}, logged no half-life."
    asked = run.config.agent.half_life
    in_steps = run.series("optim/half_life_steps")[1]
    # A few updates are longer than the others, which changes a half-life in env steps for a moment.
    low, *_, high = quantiles(half_lives, n=20) if len(half_lives) > 1 else half_lives * 2
    if high > 1.1 * low:
        stated = f"The half-life, stated as {asked!r}, was between {low:,.0f} and {high:,.0f} updates"
        return f"{stated}, {half_lives[-1]:,.0f} at env step {steps[-1]:,.0f}."
    long = f"{median(half_lives):,.0f} updates"
    if in_steps:
        long += f" ({median(in_steps):,.0f} env steps)"
    return f"The half-life in force was {long}."


def describe_return(regime: RegimeReturns) -> str:
    """What a change of regime did to the return."""
    when = f"At env step {regime.start:,.0f} the world changed"
    if math.isnan(regime.before) or math.isnan(regime.first_tenth):
        return f"{when}; too few episodes ended around it to say what that did to the return."
    if not regime.fell:
        return f"{when} and the return held: {regime.before:,.1f} before, {regime.first_tenth:,.1f} right after."
    fell = f"{when} and the return fell from {regime.before:,.1f} to {regime.first_tenth:,.1f}"
    if math.isinf(regime.recovery):
        return f"{fell}; it was not back at 90 % of it by env step {regime.end:,.0f}, when the regime ended."
    return f"{fell}; it was back at 90 % of it after {regime.recovery:,.0f} env steps."


def describe_following(following: Following, regime: RegimeReturns) -> str:
    """How the second moment followed in a regime, and the verdict on the half-life."""
    begin = "From the start on" if regime.start == 0 else f"After the change at env step {regime.start:,.0f}"
    if not regime.begins_with_change and regime.start > 0:
        begin = f"From env step {regime.start:,.0f} on"
    return f"{begin} {_lag(following)}: {_verdict(following)}"


def _lag(following: Following) -> str:
    if abs(following.worst) <= math.log(2.0):
        return "the second moment stayed within a factor of 2 of the squared gradients"
    much = (
        f"{math.exp(abs(following.worst)):,.1f}"
        if abs(following.worst) < math.log(10)
        else _round(following.worst)
    )
    way = "large" if following.worst > 0 else "small"
    told = (
        f"the second moment was up to {much} times too {way}, {following.worst_after:,.0f} updates into the regime"
    )
    if following.left == 0:
        halved = "was so when it ended"
    elif math.isinf(following.halved_after):
        halved = f"had not halved that error {following.left:,.0f} updates later, when the regime ended"
    else:
        halved = f"took {following.halved_after:,.0f} updates to halve that error"
    off = f"it was off by more than a factor of 2 for {_percent(following.share_off)} of the regime"
    if following.verdict != "too short":
        off += f", {'more' if following.verdict == 'too long' else 'no more'} than a quarter"
    return f"{told}, and {halved}; {off}"


def _verdict(following: Following) -> str:
    long = f"the half-life of {following.half_life:,.0f} updates was {following.verdict}"
    if following.verdict == "too long":
        slow = ""
        if following.worst > 0:
            slow = f" Meanwhile v made steps up to {math.exp(following.worst / 2):,.1f} times smaller."
        return f"{long}; at most about {max(following.better, 1.0):,.0f} updates would have done.{slow}"
    if following.verdict == "too short":
        return (
            f"{long}, since v swung up and down by a factor of {math.exp(following.swing):.1f} from one reading "
            f"to the next; about {math.ceil(following.better):,.0f} updates would have been steady."
        )
    return f"{long}."


def describe_verdicts(followings: Sequence[Following]) -> str:
    """All verdicts in one sentence."""
    if not followings:
        return "The log does not tell how the second moment followed the squared gradients."
    told = []
    for verdict in ("too long", "too short", "right"):
        count = sum(following.verdict == verdict for following in followings)
        if count:
            told.append(f"{verdict} in {count}")
    if len(followings) == 1:
        return f"For the one regime that can be judged it was {followings[0].verdict}."
    return f"For the {len(followings)} regimes that can be judged it was {', '.join(told)}."


def describe_training(run: Run) -> list[str]:
    """Clipping, guard, critic, exploration and eps, as far as they were logged."""
    told = [_clipping(run), _guard(run), _critic(run), _exploration(run), _eps(run)]
    return [sentence for sentence in told if sentence]


def _clipping(run: Run) -> str:
    shares = run.series("optim/clip_share")[1]
    limit = run.config.agent.max_grad_norm
    if limit is None or not shares:
        return ""
    share = fmean(shares)
    if share > _MOST:
        return (
            f"Gradients were clipped to norm {limit:g} in nearly every update ({_percent(share)}). Their length "
            "then never changes, so v follows only how it is shared among the parameters."
        )
    if share < _FEW:
        return f"Gradients were hardly ever clipped ({_percent(share)} of the updates)."
    return f"Gradients were clipped to norm {limit:g} in {_percent(share)} of the updates, before v saw them."


def _guard(run: Run) -> str:
    skipped = run.series("optim/num_nonfinite")[1]
    if not skipped:
        return ""
    if skipped[-1] == 0:
        return "The guard skipped no update: all gradients were finite."
    did = "mended the gradients of" if run.config.agent.on_nonfinite == "clip" else "skipped"
    return (
        f"The guard {did} {skipped[-1]:,.0f} updates whose gradients were not finite; look at rewards and "
        "learning rate."
    )


def _critic(run: Run) -> str:
    explained = run.series("train/explained_variance")[1]
    if not explained:
        return ""
    last = median(explained[-max(len(explained) // 10, 1) :])
    if last > 0.5:
        said = "the critic foretold returns well"
    elif last > 0.1:
        said = "the critic foretold returns a little"
    else:
        said = "the critic foretold returns no better than their mean does"
    return f"At the end {said} (explained variance {last:.2f}; 1 is perfect, 0 is useless)."


def _exploration(run: Run) -> str:
    losses = run.series("train/entropy_loss")[1]
    if not losses:
        return ""
    first, last = -losses[0], -median(losses[-max(len(losses) // 10, 1) :])
    if first <= 0 or last <= 0:  # of densities, whose entropy has no natural zero
        return f"The policy's entropy went from {first:.2f} to {last:.2f}: the lower, the less it explores."
    share = last / first
    if share < _FEW:
        return (
            f"The policy's entropy collapsed to {_percent(share)} of what it began with: it hardly explores, so "
            "it would meet a change slowly. A larger ent_coef keeps it exploring."
        )
    return f"The policy's entropy is at {_percent(share)} of what it began with, so it still explores."


def _eps(run: Run) -> str:
    shares = run.series("optim/eps_dominance")[1]
    if not shares or median(shares) < 0.2:
        return ""
    return (
        f"In {_percent(median(shares))} of the parameters eps rather than v sets how long steps are; a smaller "
        "eps gives that back to v."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _round(log_factor: float) -> str:
    """A factor above 10 with two digits."""
    factor = math.exp(abs(log_factor))
    digits = 1 - math.floor(math.log10(factor))
    return f"{round(factor, digits):,.0f}"
