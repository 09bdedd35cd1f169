"""Findings about categories: without objects, absent from a split, or with nearly the same name."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from resdet.detection.check.finding import Finding
from resdet.detection.check.split import Split, name_list


def check_categories(splits: Sequence[Split]) -> list[Finding]:
    first = splits[0]
    others = [split for split in splits[1:] if list(split.classes.values()) != list(first.classes.values())]
    findings = [_mismatch(split, first) for split in others]
    same = [split for split in splits if split not in others]
    return [*findings, *_same_names(first), *_unused(same), *(each for split in others for each in _unused([split]))]


def _mismatch(split: Split, first: Split) -> Finding:
    differing = sorted(set(split.classes.values()) ^ set(first.classes.values())) or list(split.classes.values())
    return split.finding(
        "category_mismatch",
        f"{split.name} and {first.name} have different categories or another order ({name_list(differing)})",
        categories=differing,
    )


def _same_names(split: Split) -> Iterator[Finding]:
    """Finds names that differ only in case, spaces, - and _, or not at all."""
    groups = defaultdict(list)
    for name in split.classes.values():
        groups["".join(character for character in name.casefold() if character not in " -_")].append(name)
    for names in groups.values():
        if len(names) > 1:
            sentence = f"{len(names)} categories are named {' and '.join(map(repr, names))}"
            yield split.finding("category_name", sentence, categories=names)


def _unused(splits: Sequence[Split]) -> Iterator[Finding]:
    counts = [split.objects().label_counts() for split in splits]
    for label, name in enumerate(splits[0].classes.values()):
        present = [count[label] > 0 for count in counts]
        if not any(present):
            yield splits[0].finding("category_empty", f"{name} has no objects", category=name)
            continue
        for split, has in zip(splits, present):
            if not has:
                others = " and ".join(other.name for other, has_objects in zip(splits, present) if has_objects)
                sentence = f"{name} has no objects in {split.name}, and has in {others}"
                yield split.finding("category_absent", sentence, category=name)
