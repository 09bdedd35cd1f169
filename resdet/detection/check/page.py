"""The report as an HTML page without scripts, links or requests; pictures are data URIs."""

from base64 import b64encode
from collections.abc import Iterator
from html import escape

from resdet.detection.check.finding import KINDS, Finding
from resdet.detection.check.pictures import picture
from resdet.detection.check.report import Report
from resdet.detection.check.text import counts, headline, place
from resdet.results.page import document

PICTURES = 12  # per kind
LISTED = 200  # findings per kind
BUDGET = 4 * 10**6  # maximum characters of pictures and sentences
TITLE = "Data check"


def page(report: Report) -> str:
    """Returns the whole page, smaller than 5 MB."""
    return document(TITLE, "".join(_body(report)))


def _body(report: Report) -> Iterator[str]:
    yield f"<header><h1>{TITLE}</h1></header><main>"
    for split in report.splits:
        yield f"<div>{escape(split.name)}: {counts(split)}</div>"
    yield f"<p><strong>{escape(headline(report))}</strong></p>"
    yield "<h2>Findings</h2>" if report.findings else ""
    budget = Budget(BUDGET)
    for number, (kind, findings) in enumerate(report.by_kind().items()):
        yield from _kind(report, kind, findings, budget, opened=number == 0)
    yield from _anchors(report)
    yield from _choices(report)
    yield from _classes(report)
    yield "</main>"


class Budget:
    """Remaining characters for pictures and sentences."""

    def __init__(self, left: int):
        self.left = left

    def take(self, text: str) -> bool:
        """Returns whether the text fits and, if so, subtracts its length."""
        fits = len(text) <= self.left
        self.left -= len(text) if fits else 0
        return fits


def _kind(report: Report, kind: str, findings: list[Finding], budget: Budget, opened: bool) -> Iterator[str]:
    severity, title, advice = KINDS[kind]
    yield f'<details id="{kind}"{" open" if opened else ""}><summary><span class="tag {severity}">{severity}</span> '
    yield f"{escape(title[0].upper() + title[1:])}: {len(findings):,}</summary>"
    yield f"<p>{escape(advice[0].upper() + advice[1:])}.</p>"
    figures, rest = _figures(report, findings, budget)
    yield f'<div class="pictures">{"".join(figures)}</div>' if figures else ""
    items = [f"<li>{escape(place(each))}{escape(each.sentence)}</li>" for each in rest[:LISTED]]
    items = [item for item in items if budget.take(item)]
    yield f"<ul>{''.join(items)}</ul>" if items else ""
    if len(rest) > len(items):
        yield f"<p>… and {len(rest) - len(items):,} more: <code>resdet data check --json</code> lists all.</p>"
    yield "</details>"


def _figures(report: Report, findings: list[Finding], budget: Budget) -> tuple[list[str], list[Finding]]:
    """Returns the first findings as pictures, and those without a picture."""
    figures: list[str] = []
    rest: list[Finding] = []
    for finding in findings:
        data = picture(report.splits, finding) if len(figures) < PICTURES and budget.left > BUDGET // 20 else None
        if data is None:
            rest.append(finding)
            continue
        sentence = escape(place(finding) + finding.sentence)
        source = f"data:image/jpeg;base64,{b64encode(data).decode()}"
        figure = f'<figure><img alt="" src="{source}"><figcaption>{sentence}</figcaption></figure>'
        if budget.take(figure):
            figures.append(figure)
        else:
            rest.append(finding)
    return figures, rest


def _anchors(report: Report) -> Iterator[str]:
    yield "<h2>Anchors</h2>"
    for split, fit in report.anchors.items():
        yield f"<p>{fit.recall:.1%} of {fit.count:,} objects of {escape(split)} have an anchor with an IoU of 0.5 "
        yield "or more at the training scale.</p>"
        if fit.better:
            yield f"<p>{fit.better_recall:.1%} have one with <code>{escape(fit.better.line)}</code></p>"


def _choices(report: Report) -> Iterator[str]:
    """Yields the keys that training with the config chooses."""
    if report.choices:
        yield "<h2>Chosen by a training with this config</h2><ul>"
        yield from (f"<li><code>{escape(str(choice))}</code></li>" for choice in report.choices)
        yield "</ul>"


def _classes(report: Report) -> Iterator[str]:
    for split, classes in report.statistics.items():
        yield f"<details><summary>Categories of {escape(split)}</summary><p>Sides (root of the area) in pixels, and "
        yield "height to width, at the training scale: quantiles 5, 50 and 95%.</p>"
        yield f'<div class="scroll" tabindex="0" role="region" aria-label="Categories of {escape(split)}">'
        names = ("category", "images", "objects", "crowds", "side", "height/width")
        heads = "".join(f'<th scope="col">{name}</th>' for name in names)
        yield f"<table><thead><tr>{heads}</tr></thead><tbody>"
        for each in classes:
            size = " · ".join(f"{value:.0f}" for value in each["size"] or [])
            ratio = " · ".join(f"{value:.2f}" for value in each["ratio"] or [])
            cells = (f"{each['images']:,}", f"{each['objects']:,}", f"{each['crowds']:,}", size, ratio)
            numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
            yield f"<tr><td>{escape(each['name'])}</td>{numbers}</tr>"
        yield "</tbody></table></div></details>"
