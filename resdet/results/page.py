"""Template of the self-contained HTML pages of `resdet report` and `resdet data check`."""

from html import escape
from pathlib import Path

STYLES = ("base.css", "parts.css")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def document(title: str, body: str) -> str:
    """Returns a page without scripts; `body`: HTML."""
    return PAGE.format(policy=POLICY, title=escape(title), style=style(), body=body)


def document_with_script(title: str, body: str, script: str) -> str:
    policy = f"{POLICY}; script-src 'unsafe-inline'"
    body = f"{body}\n<script>\n{script}\n</script>"
    return PAGE.format(policy=policy, title=escape(title), style=style(), body=body)


def style() -> str:
    folder = Path(__file__).parent
    return "".join((folder / name).read_text(encoding="utf-8") for name in STYLES)
