"""What the documentation site does beside MkDocs: names of the library lead to their reference.

`rl_rms.laws.matched_half_life` in a page or docstring, written as code, becomes a link where the reference has it.
"""

import re
from typing import Any

_NAME = re.compile(r"(?<!>)<code>(rl_rms(?:\.\w+)+)</code>(?!</a>)")


def on_page_content(html: str, **_: Any) -> str:
    """Have mkdocs-autorefs look up the library's names in a page; those that it does not know stay as they are."""
    return _NAME.sub(r'<autoref identifier="\1" optional><code>\1</code></autoref>', html)
