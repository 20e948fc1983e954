"""What notebooks show of a job and of its result: HTML without scripts, in which every text is escaped."""

import base64
from collections.abc import Iterable, Mapping
from html import escape

from diffedit.text import printable

_FIGURE = "margin:0 8px 8px 0;display:inline-block;vertical-align:top;text-align:center"
_PICTURE = "display:block;max-width:256px;min-width:128px;height:auto;border-radius:6px"
_CELL = "text-align:left;padding:2px 12px 2px 0"


def facts_html(facts: Mapping[str, object], progress: float | None = None) -> str:
    """Return a table of facts, with a bar if `progress` (0 to 1) is given."""
    bar = "" if progress is None else f'<progress value="{progress:.3f}" style="width:256px"></progress>'
    rows = "".join(
        f'<tr><th style="{_CELL}">{_text(name)}</th><td style="{_CELL}">{_text(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f"<div>{bar}<table>{rows}</table></div>"


def pictures_html(pictures: Iterable[tuple[str, bytes]], text: str) -> str:
    """Return pictures (WebP files) side by side, each with its name, and a text below."""
    figures = "".join(
        f'<figure style="{_FIGURE}"><img alt="{_text(name)}" style="{_PICTURE}" '
        f'src="data:image/webp;base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{_text(name)}</figcaption></figure>"
        for name, data in pictures
    )
    return f"<div>{figures}<div>{_text(text)}</div></div>"


def _text(value: object) -> str:
    return escape(printable(value))
