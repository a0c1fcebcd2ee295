"""What the documentation site does beside MkDocs: names of the library lead to their reference.

`rl_rms.laws.matched_half_life` in a page or docstring, written as code, becomes a link where the reference has it.
"""

import re
from typing import Any

# Links, headings and blocks of code stay as they are.
_NAME = re.compile(r"<(a|h\d|pre)\b.*?</\1>|<code>(rl_rms(?:\.\w+)+)</code>", re.DOTALL)


def on_page_content(html: str, **_: Any) -> str:
    """Have mkdocs-autorefs look up the library's names in a page; those that it does not know stay as they are."""
    return _NAME.sub(_as_reference, html)


def _as_reference(found: re.Match[str]) -> str:
    if found[2] is None:
        return found[0]
    return f'<autoref identifier="{found[2]}" optional><code>{found[2]}</code></autoref>'
