"""`resdet nets`: what the registry holds, counted on the nets themselves."""

from resdet.backbones import config, registry
from resdet.backbones.counting import count_multiply_adds, count_parameters, on_paper


def variants(name: str) -> list[dict[str, str]]:
    """The options that change a net's size or cost."""
    if name in ("resnet18", "resnet34"):
        return [{"shortcut": option} for option in "ABC"]
    if name in config.IMAGENET_RESNETS:
        return [{"shortcut": "B", "stride_in": stride} for stride in ("1x1", "3x3")]
    return [{}]


def row(name: str, options: dict[str, str]) -> tuple[str, ...]:
    entry = registry.entry(name)
    net = on_paper(name, 10 if entry.image_size == 32 else 1000, **options)
    strides = " ".join(f"{level}:{stride}" for level, stride in entry.strides.items())
    shortcut = options.get("shortcut") or ("A" if name.startswith("cifar_resnet") else "-")
    return (
        name,
        str(entry.depth),
        shortcut,
        options.get("stride_in", "-"),
        f"{count_parameters(net):,}",
        f"{count_multiply_adds(net, entry.image_size) / 1e9:.3f} G",
        f"{entry.image_size}",
        strides,
    )


def nets() -> None:
    """Prints name, depth, shortcut option, place of the stride, parameters, multiply-adds, and feature strides."""
    head = (
        "name",
        "depth",
        "shortcut",
        "stride in",
        "parameters",
        "multiply-adds",
        "image",
        "features and their strides",
    )
    rows = [head] + [row(name, options) for name in config.names() for options in variants(name)]
    widths = [max(len(line[column]) for line in rows) for column in range(len(head))]
    right = {1, 4, 5, 6}
    for line in rows:
        cells = [cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths))]
        print("  ".join(cells).rstrip())
    print("CIFAR nets of any depth 6n+2 (cifar_resnet26, …) and timm/<name>, any net of timm's, can be named too.")
