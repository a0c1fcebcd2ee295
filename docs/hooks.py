"""Additions to MkDocs: links from names to the API reference, the page about the command line, and Mermaid.

A full name in code format, such as `rl_rms.laws.matched_half_life`, becomes a link if the API reference has it.
"""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from rl_rms.cli import parser
from rl_rms.cli.main import COMMANDS, main

# `make docs` fetches Mermaid from npm. Without this copy, the theme would load Mermaid from another host.
MERMAID = Path(__file__).resolve().parent.parent / ".venv" / "mermaid.min.js"

# Characters of a line in a code block of the site.
_WIDTH = 78
# The pattern also matches links, headings and code blocks, because their names must stay as they are.
_NAME = re.compile(r"<(a|h\d|pre)\b.*?</\1>|<code>(rl_rms(?:\.\w+)+)</code>", re.DOTALL)

_COMPLETION = """\
With the extra `completion`, bash and zsh complete commands, options, packaged names and values. Add this line to
the startup file of your shell, such as `~/.bashrc`:

```bash
eval "$(register-python-argcomplete rl-rms)"
```"""


def on_files(files: Files, config: Any) -> Files:
    """Add Mermaid and the page about the command line to the site."""
    files.append(File.generated(config, "api/cli.md", content=command_line()))
    if MERMAID.exists():
        files.append(File.generated(config, MERMAID.name, content=MERMAID.read_bytes()))
    return files


def command_line() -> str:
    """The page about the command line: the help of every command."""
    parser.HELP_WIDTH = _WIDTH
    parts = ["# Command line", "`rl-rms COMMAND --help` prints these texts.", _COMPLETION]
    for name, summary in COMMANDS.items():
        words = [name, "--help=all" if name == "train" else "--help"]
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            main(words)
        sentence = f"{summary[0].upper()}{summary[1:]}."
        parts += [f"## rl-rms {name}", sentence, f"```text\n{text.getvalue().strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def on_page_content(html: str, **_: Any) -> str:
    """Link names of the library in a page to the reference, and load Mermaid on pages with a diagram."""
    if 'class="mermaid"' in html:
        # Without Mermaid, diagrams are shown as text.
        script = f'<script src="{MERMAID.name}"></script>'
        html = script + html if MERMAID.exists() else html.replace('class="mermaid"', "")
    return _NAME.sub(_as_reference, html)


def _as_reference(found: re.Match[str]) -> str:
    if found[2] is None:
        return found[0]
    return f'<autoref identifier="{found[2]}" optional><code>{found[2]}</code></autoref>'
