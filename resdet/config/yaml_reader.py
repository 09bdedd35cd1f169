"""Reads the subset of YAML that configs use: mappings, lists, text, numbers, true, false and null, of bounded size.

`parse` returns plain containers or raises a ConfigError with the line. Only `true` and `false` are booleans, `1e-4`
is a number, and dates stay text. Tags, duplicate keys and recursive aliases are refused.
"""

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from resdet.config.settings import NO_TEXT
from resdet.errors import ConfigError

MAX_CHARACTERS = 100_000
MAX_DEPTH = 30
MAX_VALUES = 10_000  # including expanded aliases

TAG = "tag:yaml.org,2002:"
# Longer integers, and integers with a leading zero, are text: hashes and file names.
PATTERNS = {
    "bool": (re.compile("(true|false)$"), "tf"),
    "int": (re.compile(r"[-+]?(0|[1-9][0-9_]{0,17})$"), "-+0123456789"),
    "float": (
        re.compile(r"([-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.inf|\.nan)$"),
        "-+0123456789.",
    ),
    "null": (re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "merge": (re.compile("<<$"), "<"),
}
VALUES = {
    "bool": lambda text: text == "true",
    "int": lambda text: int(text.replace("_", "")),
    "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    "null": lambda text: None,
}


class Loader(yaml.SafeLoader):
    """Composes the node graph with limited nesting, since the composer is recursive."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} levels deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


Loader.yaml_implicit_resolvers = {}
for name, (pattern, first) in PATTERNS.items():
    Loader.add_implicit_resolver(TAG + name, pattern, list(first))


class Dumper(yaml.SafeDumper):
    """Quotes text that this reader, or a YAML 1.1 reader, would not read as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for name, (pattern, first) in PATTERNS.items():
    Dumper.add_implicit_resolver(TAG + name, pattern, list(first))


def parse(text: str, origin: str) -> Any:
    """Returns the value of a YAML document; a ConfigError starts with the origin and the line."""
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{origin}: more than {MAX_CHARACTERS} characters, too long for a config.")
    try:
        root = Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise refusal(origin, error.problem_mark or error.context_mark, error.problem or error.context) from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{origin}: this is not YAML: {error.reason} ({error.character!r}).") from None
    except (ValueError, OverflowError):  # raised by PyYAML for an escape such as "\UFFFFFFFF"
        raise ConfigError(f"{origin}: this is not YAML: it contains an invalid escape sequence.") from None
    return None if root is None else Builder(origin).build(root, ())


def dump(settings: Any) -> str:
    return yaml.dump(settings, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def refusal(origin: str, mark: yaml.Mark | None, problem: str) -> ConfigError:
    line = f", line {mark.line + 1}" if mark else ""
    if "'\\t'" in problem:
        problem = "it is indented with a tab: use spaces"
    return ConfigError(f"{origin}{line}: this is not YAML: {problem}.")


class Builder:
    """Builds plain values from a node graph; aliases are copied, and each copy counts."""

    def __init__(self, origin: str):
        self.origin, self.values = origin, 0

    def build(self, node: Node, inside: tuple[Node, ...]) -> Any:
        """Returns the value of a node; `inside` are the containers that enclose it."""
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.error(node, f"more than {MAX_VALUES} values with aliases expanded")
        if node in inside:
            raise self.error(node, "an alias is inside the value that it refers to")
        if isinstance(node, ScalarNode):
            return self.scalar(node)
        if isinstance(node, SequenceNode) and node.tag == TAG + "seq":
            return [self.build(entry, (*inside, node)) for entry in node.value]
        if isinstance(node, MappingNode) and node.tag == TAG + "map":
            return self.mapping(node, (*inside, node))
        raise self.unknown_tag(node)

    def scalar(self, node: ScalarNode) -> Any:
        kind = node.tag.removeprefix(TAG)
        if kind == "str":
            return self.text(node)
        if kind not in VALUES:
            raise self.unknown_tag(node)
        if not PATTERNS[kind][0].match(node.value):
            raise self.error(node, f"{node.value!r} is no {kind}: leave out the tag !!{kind}")
        return VALUES[kind](node.value)

    def text(self, node: ScalarNode) -> str:
        if NO_TEXT.search(node.value):
            raise self.error(node, f"{node.value!r} has a character that is invalid in file names")
        return node.value

    def mapping(self, node: MappingNode, inside: tuple[Node, ...]) -> dict[str, Any]:
        """Builds a mapping; its keys must be text and unique, and override those of `<<`."""
        settings: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == TAG + "merge":
                merged = self.merged(value, inside) | merged
                continue
            if not isinstance(key, ScalarNode) or key.tag.removeprefix(TAG) not in (*VALUES, "str"):
                raise self.error(key, "a key is text, not a list or a mapping")
            if self.text(key) in settings:
                raise self.error(key, f"duplicate key {key.value}: leave one out")
            settings[key.value] = self.build(value, inside)
        return merged | settings

    def merged(self, node: Node, inside: tuple[Node, ...]) -> dict[str, Any]:
        """Returns the merged mapping of `<<`, a mapping or a list of mappings; the first takes precedence."""
        value = self.build(node, inside)
        sources = value if isinstance(value, list) else [value]
        settings: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, dict):
                raise self.error(node, "<< needs a mapping, or a list of mappings")
            settings = source | settings
        return settings

    def unknown_tag(self, node: Node) -> ConfigError:
        tag = node.tag.replace(TAG, "!!")
        return self.error(node, f"the tag {tag} has no meaning in a config: leave it out")

    def error(self, node: Node, problem: str) -> ConfigError:
        return ConfigError(f"{self.origin}, line {node.start_mark.line + 1}: {problem}.")
