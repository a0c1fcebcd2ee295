"""``rl-rms report RUN...``: one HTML page that says what runs did, and what their half-life did."""

import base64
import io
import math
import re
import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_rms.agents import files
from rl_rms.cli.config import Parser
from rl_rms.cli.errors import UserError, require_plots
from rl_rms.cli.runs import CONFIG, RETURN, SUMMARY, Run, read_summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rl_rms.cli.events import EventLog
    from rl_rms.cli.groups import Group
    from rl_rms.cli.regimes import RegimeReturns
    from rl_rms.cli.tracking import Following

REPORT = "report.html"
# Width of a figure in inches, on a screen and on a phone.
_WIDE, _NARROW = 8.0, 4.4
_MOST_SENTENCES = 10
_TOO_SHORT = "No regime was long enough, beside how often was logged, to say how v followed; log more often."
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
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
li {{ margin: 0.35rem 0; }}
details {{ background: var(--soft); border-radius: 6px; padding: 0.5rem 0.8rem; margin: 1rem 0; }}
summary {{ cursor: pointer; font-weight: 600; }}
pre {{ overflow-x: auto; font-size: 0.8rem; line-height: 1.4; }}
.verdict {{ border-left: 4px solid #0072b2; padding-left: 0.8rem; }}
@media (max-width: 600px) {{ th, td {{ padding: 0.3rem 0.35rem; }} ul {{ padding-left: 1.2rem; }} }}
</style></head><body>
<h1>{title}</h1>
<p>RMSprop divides each gradient by the root of <b>v</b>, its <b>second moment</b>: an average of past squared
gradients. The <b>half-life</b> is how many updates it takes until a past squared gradient counts half in v.</p>
<details><summary>How to read this page</summary>
<p>A <b>regime</b> is the time between two changes of the world. After a change the gradients become larger or
smaller, and until v has followed, steps are too long or too short. v's error is told as a factor, and halved when
its logarithm is: from 16 times too large, 4 times is half of the way.</p>
<p>A half-life is called <b>too long</b> where v was off by more than a factor of 2 for more than a quarter of a
regime, <b>too short</b> where v swings up and down by more than a factor of 1.4 from one reading of the log to the
next, else <b>right</b>. This says how v follows the gradients; whether another half-life earns more, a comparison
of runs has to say.</p></details>
{sections}
</body></html>
"""


def main(argv: Sequence[str]) -> int:
    """Write the report that the words after ``rl-rms report`` ask for.

    Returns:
        Exit status.

    Raises:
        UserError: If a folder is no run's, nothing was logged in it, environments are mixed, or there are several
            seeds and the extra ``plots`` is missing.
    """
    from rl_rms.cli.groups import WORDS, find_groups

    parser = Parser(
        prog="rl-rms report",
        usage="rl-rms report RUN ... [--output FILE]",
        description=(
            "Write one HTML page that says in words and figures what runs did and what their half-life did; it "
            "needs neither network nor JavaScript."
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
        help=f"File to write, .html; by default {REPORT} in the run's folder, or here for several runs.",
    )
    arguments = parser.parse_args(list(argv))
    if arguments.output and Path(arguments.output).suffix != ".html":
        raise UserError(f"--output must end in .html, got {arguments.output!r}")
    groups = find_groups(arguments.runs)
    single = sum(len(group.logs) for group in groups) == 1
    if not single:
        require_plots("reports of several runs")
    folder = groups[0].logs[0].folder if single else Path()
    output = Path(arguments.output) if arguments.output else folder / REPORT
    output.parent.mkdir(parents=True, exist_ok=True)
    files.write(output, page(groups))
    print(output)
    return 0


def page(groups: "Sequence[Group]") -> str:
    """The whole page."""
    from rl_rms.cli.plots import learning_curve

    sections = []
    if len(groups) > 1:
        names = ", ".join(group.name for group in groups)
        picture = _figure(
            lambda width: learning_curve(groups, width), f"Mean return against env steps of {names}."
        )
        sections.append(f"<section><h2>All of them</h2>{picture}</section>")
    sections += [_of_group(group, beside_others=len(groups) > 1) for group in groups]
    title = _title(groups[0]) if len(groups) == 1 else f"{len(groups)} groups of runs"
    return _PAGE.format(title=escape(title), sections="\n".join(sections))


def _title(group: "Group") -> str:
    if len(group.logs) > 1:
        return group.name
    folder = group.logs[0].folder.resolve()
    return f"{folder.parent.name}, {folder.name}"


def _of_group(group: "Group", *, beside_others: bool) -> str:
    """The section of a group: its only run's own, or what its seeds have in common and each of them folded."""
    if len(group.logs) == 1:
        heading = f"<h2>{escape(group.name)}</h2>" if beside_others else ""
        return f"<section>{heading}{_of_log(group.logs[0])}</section>"

    from rl_rms.cli.plots import adaptation_bars, learning_curve
    from rl_rms.cli.regimes import read_regimes
    from rl_rms.cli.words import describe_memory, describe_verdicts

    parts = [f"<h2>{escape(group.name)}</h2>", f"<p>{escape(_what(group.logs[0], len(group.logs)))}</p>"]
    parts.append(f'<p class="result">{escape(_result_of_seeds(group))}</p>')
    parts.append(
        _figure(
            lambda width: learning_curve([group], width),
            f"Interquartile mean of the return of {len(group.logs)} seeds of {group.name} against env steps.",
        )
    )
    runs = group.runs
    if runs and all(len(read_regimes(run)) > 1 for run in runs):
        parts.append("<h3>How the return took the changes</h3>")
        parts.append(
            _figure(
                lambda width: adaptation_bars([group], width),
                "For each regime the return in its first and last tenth, and env steps until it had recovered.",
            )
        )
    if runs:
        judged = [following for run in runs for _, following in _followings(run)]
        told = f"{describe_memory(runs[0])} {describe_verdicts(judged)}"
        parts.append(f'<h3>What the half-life did</h3><p class="verdict">{_emphasized(told)}</p>')
    for log in group.logs:
        name = f"seed {log.config.seed}: {log.folder.name}" if isinstance(log, Run) else log.folder.name
        parts.append(f"<details><summary>{escape(name)}</summary>{_of_log(log)}</details>")
    return f"<section>{''.join(parts)}</section>"


def _result_of_seeds(group: "Group") -> str:
    from rl_rms.studies.intervals import interquartile_mean

    last = interquartile_mean([log.series(RETURN)[1][-1] for log in group.logs])
    return (
        f"At the end the mean return of the last episodes was {last} over {len(group.logs)} seeds: interquartile "
        "mean and 95 % interval."
    )


def _of_log(log: "Run | EventLog") -> str:
    """What one run did."""
    from rl_rms.cli.groups import Group
    from rl_rms.cli.plots import learning_curve
    from rl_rms.cli.words import describe_result

    alone = Group(log.folder.name, [log])
    parts = [f"<p>{escape(_what(log, 1))}</p>", f'<p class="result">{escape(describe_result(log))}</p>']
    if isinstance(log, Run):
        parts.append(f'<p class="verdict">{_in_short(log)}</p>')
    shown = "Mean return of the last 100 episodes against env steps"
    if isinstance(log, Run):
        shown += ", and under it what changed in the world"
    parts.append(_figure(lambda width: learning_curve([alone], width), f"{shown}."))
    if isinstance(log, Run):
        parts += [_memory(log), _changes(log), _training(log), _folded(log)]
    return "".join(parts)


def _what(log: "Run | EventLog", seeds: int) -> str:
    """What was run."""
    if not isinstance(log, Run):
        where = "" if log.env_id is None else f" on {log.env_id}"
        return (
            f"A training of {log.library}{where}, read from its TensorBoard events, which tell of returns alone."
        )
    config = log.config
    which = f"seed {config.seed}" if seeds == 1 else f"{seeds} seeds"
    changing = list(config.env.changes) + (["a curriculum"] if config.env.curriculum else [])
    world = f"in a world where {_and(changing)} changed" if changing else "in a world that stood still"
    cut = "" if log.steps[-1] >= config.total_timesteps else f" of {config.total_timesteps:,}"
    return (
        f"{config.agent.algorithm.upper()} on {config.env.id} {world}: {config.env.num_envs} environments, "
        f"{log.steps[-1]:,.0f} env steps{cut}, {which}."
    )


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _changes(run: Run) -> str:
    """How the return took the changes, as a table and in words."""
    from rl_rms.cli.regimes import read_regimes
    from rl_rms.cli.words import describe_return

    regimes = read_regimes(run)
    if not regimes:
        return "<h3>How the return took the changes</h3><p>The log tells of no regime that came to its end.</p>"
    rows = "".join(
        f"<tr><td>{i}</td><td>{regime.start:,.0f}</td><td>{_number(regime.first_tenth)}</td>"
        f"<td>{_number(regime.last_tenth)}</td><td>{_recovery(regime)}</td></tr>"
        for i, regime in enumerate(regimes, start=1)
    )
    table = (
        '<div class="scroll long"><table><tr><th>regime</th><th>from env step</th><th>first tenth</th>'
        f"<th>last tenth</th><th>recovered after</th></tr>{rows}</table></div>"
    )
    told = _list([describe_return(regime) for regime in regimes if regime.begins_with_change])
    return f"<h3>How the return took the changes</h3>{table}{told or '<p>Nothing jumped in this world.</p>'}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.1f}"


def _recovery(regime: "RegimeReturns") -> str:
    if math.isnan(regime.recovery):
        return "-"
    if not regime.fell:
        return "held"
    return "never" if math.isinf(regime.recovery) else f"{regime.recovery:,.0f}"


def _memory(run: Run) -> str:
    """What the half-life did: the verdict, the figures and each regime in words."""
    from rl_rms.cli.plots import effective_step, memory_curves
    from rl_rms.cli.tracking import read_tracking
    from rl_rms.cli.words import describe_following

    parts = ["<h3>What the half-life did</h3>"]
    tracking = read_tracking(run)
    if tracking is not None:
        parts.append(
            _figure(
                lambda width: memory_curves(run, tracking, width),
                "Second moment and squared gradients against env steps, and under them the half-life in force.",
            )
        )
        told = [describe_following(following, regime) for regime, following in _followings(run)]
        parts.append(_list(told or [_TOO_SHORT]))
    elif run.series("optim/half_life_updates")[0]:
        parts.append(f"<p>{escape(_why_unknown(run))}</p>")
    if run.series("optim/effective_step")[0]:
        parts.append(
            _figure(
                lambda width: effective_step(run, width),
                "Root mean square of a step against env steps, and the learning rate beside it.",
            )
        )
    return "".join(parts) if len(parts) > 1 else ""


def _in_short(run: Run) -> str:
    """The half-life in force, and the verdict on it."""
    from rl_rms.cli.words import describe_memory, describe_verdicts

    followings = [following for _, following in _followings(run)]
    return _emphasized(f"{describe_memory(run)} {describe_verdicts(followings)}")


def _emphasized(sentence: str) -> str:
    """With the verdicts on half-lives in bold."""
    return re.sub(r"\b(too long|too short|right)(?= in \d|[.,;])", r"<b>\1</b>", escape(sentence))


def _why_unknown(run: Run) -> str:
    unknown = "How the second moment followed the squared gradients is not known"
    agent = run.config.agent
    if agent.on_change != "keep":
        return f"{unknown}: with on_change {agent.on_change} the memory is not the same before and after a change."
    if agent.optimizer_kwargs.get("centered"):
        return f"{unknown}: with centered the log holds the gradients' variance only."
    return f"{unknown}: the log has too few entries, or lacks train/n_updates."


def _followings(run: Run) -> "list[tuple[RegimeReturns, Following]]":
    """The regimes in which it can be said how the second moment followed."""
    from rl_rms.cli.regimes import read_regimes
    from rl_rms.cli.tracking import follow, read_tracking

    tracking = read_tracking(run)
    if tracking is None:
        return []
    told = [(regime, follow(tracking, regime.start, regime.end)) for regime in read_regimes(run)]
    return [(regime, following) for regime, following in told if following is not None]


def _training(run: Run) -> str:
    from rl_rms.cli.words import describe_training

    told = _list(describe_training(run))
    return f"<h3>What else the log says</h3>{told}" if told else ""


def _folded(run: Run) -> str:
    """Configuration and versions."""
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


def _list(sentences: Sequence[str]) -> str:
    """The first sentences as a list, and those that are more than a page bears folded."""
    if len(sentences) > _MOST_SENTENCES:
        more = sentences[_MOST_SENTENCES:]
        folded = f"<details><summary>{len(more)} more</summary>{_list_all(more)}</details>"
        return _list_all(sentences[:_MOST_SENTENCES]) + folded
    return _list_all(sentences)


def _list_all(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{_emphasized(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _figure(draw: "Callable[[float], Figure]", shows: str) -> str:
    """A figure inside the page, drawn for screens and for phones."""
    wide, narrow = (_as_data(draw(width)) for width in (_WIDE, _NARROW))
    return (
        f'<figure><picture><source media="(max-width: 600px)" srcset="{narrow}">'
        f'<img src="{wide}" alt="{escape(shows)}"></picture></figure>'
    )


def _as_data(figure: "Figure") -> str:
    import matplotlib as mpl

    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "rl_rms"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"
