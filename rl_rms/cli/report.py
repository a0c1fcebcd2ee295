"""``rl-rms report RUN...``: one HTML page about the returns of runs and how RMSprop's second moment tracked."""

import base64
import math
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, get_args

from rl_rms.agents import files
from rl_rms.agents.adaptation import RECOVERED, WINDOW, Regime
from rl_rms.agents.config_file import CONFIG
from rl_rms.agents.metrics import RETURN
from rl_rms.cli.errors import UserError, require
from rl_rms.cli.parser import Parser
from rl_rms.cli.regimes import read_regimes
from rl_rms.cli.runs import SUMMARY, Log, Run, read_summary
from rl_rms.cli.tracking import Following, State, follow, read_tracking
from rl_rms.studies.drawing import figure_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rl_rms.cli.events import EventLog
    from rl_rms.cli.groups import Group

REPORT = "report.html"
# Column headings of the table of regimes, by group.
_COLUMNS = {
    "": ("regime", "from env step"),
    "return": ("first tenth", "last tenth", "recovered after"),
    "second moment v": ("off by at most", "off by 2 for", "half-life", "state", "half-life that tracks"),
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #8885; --soft: #8882; }}
* {{ box-sizing: border-box; }}
body {{ font: 16px/1.55 system-ui, sans-serif; max-width: 56rem; margin: 0 auto; padding: 1rem; }}
body {{ overflow-wrap: anywhere; }}
h1 {{ font-size: 1.7rem; line-height: 1.2; }} h2 {{ margin-top: 0; }} h3 {{ margin: 1.8rem 0 0.5rem; }}
section {{ border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: 1.5rem; }}
figure {{ margin: 1rem 0; }}
img {{ width: 100%; height: auto; background: white; border-radius: 6px; display: block; }}
.result {{ font-size: 1.1rem; font-weight: 600; }}
.scroll {{ overflow-x: auto; }} .long {{ max-height: 30rem; overflow-y: auto; }}
table {{ border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }}
th, td {{ border-bottom: 1px solid var(--line); padding: 0.3rem 0.7rem; text-align: right; }}
th {{ vertical-align: bottom; overflow-wrap: normal; }} td {{ white-space: nowrap; }}
th[colspan] {{ text-align: center; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
li {{ margin: 0.35rem 0; }}
details {{ background: var(--soft); border-radius: 6px; padding: 0.5rem 0.8rem; margin: 1rem 0; }}
summary {{ cursor: pointer; font-weight: 600; }}
pre {{ overflow-x: auto; font-size: 0.8rem; line-height: 1.4; }}
.tracking {{ border-left: 4px solid #0072b2; padding-left: 0.8rem; }}
@media (max-width: 600px) {{ th, td {{ padding: 0.3rem 0.35rem; }} ul {{ padding-left: 1.2rem; }} }}
</style></head><body>
<h1>{title}</h1>
<p>RMSprop divides each gradient by the root of <b>v</b>, its <b>second moment</b>: an average of past squared
gradients. The <b>half-life</b> is the number of updates after which the weight of a squared gradient in v has
halved.</p>
<details><summary>How to read this page</summary>
<p>A <b>regime</b> is the period between two abrupt changes of the environment, counted from 0.</p>
<p><b>Return.</b> The return <b>held</b> if the mean return of the episodes in a regime's first tenth, but of at
least {window} episodes, is at least {recovered:.0%} of the mean return in the last tenth of the previous regime,
or {negative:.0%} if that mean return is negative. Otherwise, the return <b>recovered</b> when the mean return of
{window} consecutive episodes reached this level. The table shows the env steps from the change to the
recovery. The recovery is unknown if the regime has fewer than {window} episodes.</p>
<p><b>Second moment.</b> After a change, the gradients may become larger or smaller. The steps are then too long or
too short until v has adapted. v <b>lags</b> if it differs from the mean squared gradient by more than a factor of
2 for more than a quarter of a regime. Otherwise, v <b>fluctuates</b> if its entries in the log typically differ
from the mean of their two neighbors by more than a factor of 1.33. Otherwise, v <b>tracks</b> the squared
gradients. Tracking does not decide the return: in ten tasks, half-lives from 20 to 2,000 updates gave similar
returns. Compare runs to find the half-life with the highest return.</p></details>
{sections}
</body></html>
"""


def main(argv: Sequence[str]) -> int:
    """Write the report of the runs in the arguments after ``rl-rms report``.

    Raises:
        UserError: If a folder is not a run folder or has no returns, environments differ, the output's suffix is
            not .html, or there are several runs and the extra ``plots`` is missing.
    """
    from rl_rms.cli.groups import WORDS, find_groups, print_comparison

    parser = Parser(
        prog="rl-rms report",
        usage="rl-rms report RUN ... [--output FILE]",
        description=(
            "Write one HTML page with the results of runs, their figures, and for each regime the return and the "
            "tracking of the second moment. The page needs neither network nor JavaScript."
        ),
        examples=[
            "rl-rms report runs/drifting_cartpole/*-seed0",
            "rl-rms report runs/drifting_cartpole --output all.html",
        ],
    )
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help=WORDS)
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help=f"File to write, .html; by default {REPORT} in the run's folder, or in the current folder for "
        "several runs.",
    )
    arguments = parser.parse_args(list(argv))
    if arguments.output and Path(arguments.output).suffix != ".html":
        raise UserError(f"--output must end in .html, got {arguments.output!r}")
    groups = find_groups(arguments.runs)
    single = sum(len(group.logs) for group in groups) == 1
    if not single:
        require("plots", "reports of several runs need rliable", "rliable")
    folder = groups[0].logs[0].folder if single else Path()
    output = Path(arguments.output) if arguments.output else folder / REPORT
    output.parent.mkdir(parents=True, exist_ok=True)
    files.write(output, page(groups))
    print_comparison(groups, output)
    print(output)
    return 0


def page(groups: "Sequence[Group]") -> str:
    """Return the HTML page of groups of runs."""
    from rl_rms.cli.plots import learning_curve

    sections = []
    title = groups[0].name
    if len(groups) > 1:
        title = f"{len(groups)} groups of runs"
        names = ", ".join(group.name for group in groups)
        picture = _figure(learning_curve(groups), f"Mean return against env steps of {names}.")
        sections.append(f"<section><h2>All groups</h2>{picture}</section>")
    elif len(groups[0].logs) == 1:
        folder = groups[0].logs[0].folder.resolve()
        title = f"{folder.parent.name}, {folder.name}"
    sections += [f"<section><h2>{escape(group.name)}</h2>{_of_group(group)}</section>" for group in groups]
    return _PAGE.format(
        title=escape(title),
        sections="\n".join(sections),
        recovered=RECOVERED,
        negative=2 - RECOVERED,
        window=WINDOW,
    )


def _of_group(group: "Group") -> str:
    """Write the section of a single run, or the result over several seeds with each run in a collapsed section."""
    from rl_rms.cli.compare import FEWEST_SEEDS, cell, interquartile, score
    from rl_rms.cli.groups import common_steps
    from rl_rms.cli.plots import learning_curve

    if len(group.logs) == 1:
        return _of_log(group.logs[0])
    count = len(group.logs)
    begin, end = common_steps(group.logs)
    last = cell(interquartile([score(log, "end", begin, end) for log in group.logs]))
    interval = ", with its 95 % interval" if count >= FEWEST_SEEDS else ""
    parts = [
        f"<p>{escape(_setting(group.logs))}</p>",
        f'<p class="result">At env step {end:,.0f}, which all seeds reached, the mean return of the last episodes '
        f"was {last}. This is the interquartile mean over {count} seeds{interval}.</p>",
        _figure(learning_curve([group]), f"Interquartile mean of the return of {count} seeds against env steps."),
    ]
    if group.runs:
        judged = [following for run in group.runs for _, following in _followings(run) if following is not None]
        parts.append(_summary(group.runs[0], judged))
    for log in group.logs:
        name = f"seed {log.config.seed}: {log.folder.name}" if isinstance(log, Run) else log.folder.name
        parts.append(f"<details><summary>{escape(name)}</summary>{_of_log(log)}</details>")
    return "".join(parts)


def _of_log(log: "Run | EventLog") -> str:
    """Return one run's result, tracking, figures, regimes and configuration as HTML."""
    from rl_rms.cli.groups import Group
    from rl_rms.cli.plots import effective_step, learning_curve, memory_curves

    parts = [f"<p>{escape(_setting([log]))}</p>", f'<p class="result">{describe_result(log)}</p>']
    curve = learning_curve([Group(log.folder.name, [log])])
    if not isinstance(log, Run):
        return "".join([*parts, _figure(curve, "Mean return of the last 100 episodes against env steps.")])
    followings = _followings(log)
    parts.append(_summary(log, [following for _, following in followings if following is not None]))
    parts.append(
        _figure(curve, "Mean return of the last 100 episodes and changes of the environment against env steps.")
    )
    if any(log.series("normalizer/jumps")[1]):
        parts.append("<p>Dashed lines mark jumps at which the observation normalizer forgot earlier values.</p>")
    parts.append(_regimes(followings))
    tracking = read_tracking(log)
    if tracking is not None:
        shows = "Second moment, squared gradients and half-life against env steps."
        parts.append(_figure(memory_curves(log, tracking), shows))
    if log.series("optim/effective_step")[0]:
        shows = "Root mean square of the optimizer's steps, and learning rate, against env steps."
        parts.append(_figure(effective_step(log), shows))
    parts.append(_configuration(log))
    return "".join(parts)


def _setting(logs: "Sequence[Run | EventLog]") -> str:
    log, seeds, steps = logs[0], len(logs), min(log.steps[-1] for log in logs)
    if not isinstance(log, Run):
        where = "" if log.env_id is None else f" on {log.env_id}"
        return (
            f"A training run of {log.library}{where}, read from its TensorBoard events, which contain only "
            "returns."
        )
    config = log.config
    which = f"seed {config.seed}" if seeds == 1 else f"{seeds} seeds"
    changing = [*config.env.changes, *(["a curriculum"] if config.env.curriculum else [])]
    changes = f"changes in {', '.join(changing)}" if changing else "no changes"
    cut = "" if steps >= config.total_timesteps else f" of {config.total_timesteps:,}"
    least = "" if all(log.steps[-1] == steps for log in logs) else "at least "
    return (
        f"{config.agent.algorithm.upper()} on {config.env.id} with {changes}: {config.env.num_envs} environments, "
        f"{least}{steps:,.0f} env steps{cut}, {which}."
    )


def describe_result(log: Log) -> str:
    """Return a sentence about the last and the best return."""
    steps, returns = log.series(RETURN)
    best = max(range(len(returns)), key=returns.__getitem__)
    return (
        f"After {log.steps[-1]:,.0f} env steps the mean return of the last episodes was {returns[-1]:,.1f}; the "
        f"best was {returns[best]:,.1f}, first at env step {steps[best]:,.0f}."
    )


def describe_half_life(run: Run) -> str:
    """Return a sentence about the half-life that the optimizer used."""
    half_lives = run.series("optim/half_life_updates")[1]
    if not half_lives:
        return f"The optimizer, {run.config.agent.optimizer}, logged no half-life."
    in_steps = run.series("optim/half_life_steps")[1]
    long = f"{median(half_lives):,.0f} updates" + (f" ({median(in_steps):,.0f} env steps)" if in_steps else "")
    if max(half_lives) > 1.1 * min(half_lives):
        long += f" in the median, between {min(half_lives):,.0f} and {max(half_lives):,.0f} updates"
    return f"The half-life was {long}."


def describe_normalizers(run: Run) -> str:
    """Return sentences about the normalizers' half-lives, and the jumps at which observations were forgotten."""
    agent, jumps = run.config.agent, run.series("normalizer/jumps")[1]
    described = []
    # With normalize_observation=True, perhaps no part of the observations is normalized. The log has the number of
    # jumps only if a part is normalized.
    if agent.normalize_observation is not False and (jumps or agent.normalize_observation is not True):
        forgot = f"; earlier values were forgotten at {jumps[-1]:,.0f} jumps" if any(jumps) else ""
        described.append(f"Observations were normalized {_with_half_life(run, 'observation')}{forgot}.")
    if agent.normalize_reward is not False:
        described.append(f"Rewards were normalized {_with_half_life(run, 'reward')}.")
    return " ".join(described)


def _with_half_life(run: Run, name: str) -> str:
    half_lives = run.series(f"half_life/{name}")[1]
    return f"with a half-life of {median(half_lives):,.0f} env steps" if half_lives else "without a half-life"


def describe_tracking(followings: Sequence[Following]) -> str:
    """Return sentences about how well v tracked the squared gradients in all regimes."""
    if not followings:
        return "The log does not show how the second moment v tracked the squared gradients."
    states = [one.state for one in followings]
    text = ", ".join(f"{state} in {states.count(state)}" for state in get_args(State) if state in states)
    count = "1 regime" if len(states) == 1 else f"{len(states)} regimes"
    return f"The log has enough entries for {count}: v {text}. Tracking does not decide the return."


def _summary(run: Run, followings: Sequence[Following]) -> str:
    text = escape(f"{describe_half_life(run)} {describe_tracking(followings)}")
    normalizers = describe_normalizers(run)
    return f'<p class="tracking">{text}</p>' + (f"<p>{escape(normalizers)}</p>" if normalizers else "")


def _followings(run: Run) -> list[tuple[Regime, Following | None]]:
    """Return each regime with its `Following`, which is None if the log has too few readings."""
    tracking = read_tracking(run)
    return [
        (regime, None if tracking is None else follow(tracking, regime.start, regime.end))
        for regime in read_regimes(run)
    ]


def _regimes(followings: Sequence[tuple[Regime, Following | None]]) -> str:
    """Return an HTML table of the regimes; empty without regimes."""
    if not followings:
        return ""
    groups = "".join(f'<th colspan="{len(columns)}">{name}</th>' for name, columns in _COLUMNS.items())
    headings = "".join(f"<th>{column}</th>" for columns in _COLUMNS.values() for column in columns)
    rows = []
    for regime, following in followings:
        cells = [
            f"{regime.number}",
            f"{regime.start:,.0f}",
            _number(regime.first_tenth),
            _number(regime.last_tenth),
        ]
        cells += [_recovery(regime), *describe_following(following)]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    table = f"<table><tr>{groups}</tr><tr>{headings}</tr>{''.join(rows)}</table>"
    return f'<h3>Regimes</h3><div class="scroll long">{table}</div>'


def describe_following(following: Following | None) -> list[str]:
    """Return the cells of a regime's row that say how well v tracked the squared gradients."""
    if following is None:
        return ["-"] * 5
    way = "too large" if following.worst > 0 else "too small"
    limit = f"{max(following.limit, 1.0):,.0f}"
    tracks = {
        "lags": f"at most {limit}",
        "fluctuates": f"at least {limit}",
        "tracks": f"{following.half_life:,.0f}",
    }
    return [
        f"{math.exp(abs(following.worst)):,.1f} times {way}",
        f"{following.share_off:.0%}",
        f"{following.half_life:,.0f}",
        following.state,
        tracks[following.state],
    ]


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.1f}"


def _recovery(regime: Regime) -> str:
    if math.isfinite(regime.recovery):
        return f"{regime.recovery:,.0f}" if regime.recovery else "held"
    return "-" if math.isnan(regime.recovery) else "never"


def _configuration(run: Run) -> str:
    """Return a collapsed HTML section with the run's configuration and the versions of packages."""
    config = escape((run.folder / CONFIG).read_text())
    versions = ""
    if (run.folder / SUMMARY).is_file():
        try:
            used: dict[str, Any] = read_summary(run.folder)["versions"]
        except UserError as error:
            print(f"{error}; the report leaves it out", file=sys.stderr)
            used = {}
        versions = f"<p>{escape(', '.join(f'{name} {version}' for name, version in used.items()))}</p>"
    return f"<details><summary>Configuration</summary>{versions}<pre>{config}</pre></details>"


def _figure(figure: "Figure", shows: str) -> str:
    """Return an HTML element that embeds a figure."""
    data = f"data:image/svg+xml;base64,{base64.b64encode(figure_bytes(figure, 'svg')).decode()}"
    return f'<figure><img src="{data}" alt="{escape(shows)}"></figure>'
