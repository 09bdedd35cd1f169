"""The report as text, about one screen long."""

from collections.abc import Iterator

from resdet.detection.check.finding import KINDS, LEFT_OUT, SEVERITIES, Finding
from resdet.detection.check.report import Report, size_of_split
from resdet.detection.check.split import Split
from resdet.errors import number_of, one_line, printable

EXAMPLES = 2  # per kind
MANY = 8  # number of kinds from which only one example each is shown
CLASSES = 6  # lines of the table
WIDTH = 150  # characters of an example


def summary(report: Report) -> str:
    return "\n".join(_lines(report))


def headline(report: Report) -> str:
    """Returns the number of findings by severity."""
    counts = [(report.count(severity), severity) for severity in SEVERITIES]
    words = [number_of(count, severity) for count, severity in counts if count]
    return ", ".join(words) or "nothing found"


def place(finding: Finding) -> str:
    """Returns the split and the file of a finding, to precede its sentence."""
    return f"{finding.split}/{one_line(finding.image)}: " if finding.image else f"{finding.split}: "


def counts(split: Split) -> str:
    """Returns the numbers of images, annotations and categories."""
    singular = {"images": "image", "annotations": "annotation", "categories": "category"}
    sizes = size_of_split(split).items()
    return ", ".join(f"{count:,} {singular[noun] if count == 1 else noun}" for noun, count in sizes)


def _lines(report: Report) -> Iterator[str]:
    for split in report.splits:
        yield f"{split.name}: {counts(split)}"
    yield headline(report)
    yield from _findings(report)
    yield ""
    yield from _classes(report)
    yield from _anchors(report)
    yield from _choices(report)


def _findings(report: Report) -> Iterator[str]:
    kinds = report.by_kind()
    examples = EXAMPLES if len(kinds) < MANY else 1
    severity = None
    for kind, findings in kinds.items():
        if KINDS[kind].severity != severity:
            severity = KINDS[kind].severity
            yield f"\n{severity}s"
        yield f"  {KINDS[kind].title}: {len(findings)} ({KINDS[kind].advice})"
        shown = findings if kind == LEFT_OUT else findings[:examples]
        yield from (f"    {_example(finding)}" for finding in shown)
        if len(findings) > len(shown) > 1:
            yield f"    … and {len(findings) - len(shown)} more"


def _example(finding: Finding) -> str:
    where = place(finding) if finding.image and finding.image not in finding.sentence else ""
    text = f"{where}{finding.sentence}"
    whole = len(text) <= WIDTH or finding.kind == LEFT_OUT  # covers many entries, and ends with their files
    return text if whole else f"{text[: WIDTH - 1]}…"


def _classes(report: Report) -> Iterator[str]:
    """Yields the classes with the most and the fewest objects in the first split."""
    split, classes = next(iter(report.statistics.items()))
    ordered = sorted(classes, key=lambda each: -each["objects"])
    shown = ordered if len(ordered) <= CLASSES else [*ordered[: CLASSES // 2], *ordered[-CLASSES // 2 :]]
    yield f"{'category (' + split + ')':24} {'images':>7} {'objects':>8}  side and height/width at the training scale"
    for each in shown:
        size, ratio = each["size"], each["ratio"]
        spread = f"{size[0]:.0f}–{size[2]:.0f} px, {ratio[0]:.2f}–{ratio[2]:.2f}" if size else ""
        yield f"{printable(each['name'])[:24]:24} {each['images']:7} {each['objects']:8}  {spread}"
    if len(ordered) > CLASSES:
        yield f"… {number_of(len(ordered) - CLASSES, 'more category', 'more categories')} in between"


def _anchors(report: Report) -> Iterator[str]:
    for split, fit in report.anchors.items():
        yield f"anchors: {fit.recall:.1%} of the objects of {split} have an anchor of IoU 0.5 or more"
        if fit.better:
            yield f"         {fit.better_recall:.1%} with {fit.better.line}"


def _choices(report: Report) -> Iterator[str]:
    """Yields the keys that training with the config chooses."""
    if report.choices:
        yield "a training with this config chooses"
        yield from (f"  {choice}" for choice in report.choices)
