"""Texts of values and keys for YAML files and overrides."""

# fmt: off
# Scalars and flow collections of every type, tags, aliases, interpolations, and invalid YAML.
TEXTS = [
    'null', '~', 'true', 'false', 'yes', 'off', '0', '-1', '1', '1.5', '1e400', '-1e400', '1e-400', '.inf',
    '-.inf', '.nan', '0x10', '0o17', '0b1', '1_000', '1:30:00', '190:20:30', '012', '+1', "9" * 30, "9" * 400,
    "9" * 5000, '1e4', '-0.0', '2001-13-01', '2001-01-01', '2001-01-01T25:00:00Z', '0000-00-00',
    '2001-02-30 10:00:00', '2001-12-14t21:59:43.10-05:00', "''", '""', 'a', "' '", '"\\0"', '"\\ud800"',
    '"\\x1b"', 'ä', '日本', '😀', "x" * 5000, '"a\\nb"', 'resnet50', 'coco', 'detection', '[]', '{}', '[[]]',
    '[null]', '[1]', '[1, 2]', '[1, 2, 3, 4]', '[a, b]', '[[1], [2]]', '{a: 1}', '{1: 2}', '{null: 1}',
    '{[a]: b}', '{? [1, 2] : 3}', '{name: a}', '{name: [1]}', '{name: null}', '{name: {name: a}}',
    '{name: resnet50, name: vgg16}', '{<<: {a: 1}}', '{<<: 1}', '{<<: [1, 2]}', '!!int abc', "!!int ''",
    '!!float abc', "!!float ''", '!!bool 3', '!!null x', '!!str 3', "!!binary '@@'", '!!binary aGVsbG8=',
    '!!timestamp abc', '!!set {a, b}', '!!set [1]', '!!omap [a: 1]', '!!omap 3', '!!pairs [a: 1, a: 2]',
    '!!seq a', '!!map [1]', "!!python/object/apply:os.system ['true']", '!!python/none',
    '!!python/name:os.system', '!unknown 3', '! 3', '!!int {a: 1}', '&a [*a]', '&a {b: *a}', '*nowhere', '&a 1',
    '[&a 1, *a]', '{a: &x [1], b: *x}', "'${'", "'${}'", "'${model}'", "'${nowhere}'", "'${optim.lr}'",
    "'${optim}'", "'${.lr}'", "'${..model}'", "'${oc.env:HOME}'", "'${oc.env:NOWHERE}'",
    '\'${oc.decode:"[1"}\'', "'${oc.create:{a:1}}'", "'${data}'", "'${model.backbone}'", "'${a:b}'",
    "'${${optim.lr}}'", "'x${model}y'", "'???'", "'\\${a}'", "'${name}'", "'${task}'", "'${train}'",
    '|\n  a\n  b', '>-\n  a', '%', '@a', '`a', '- a', '? a', ': a', 'a: b', '# a', '---', '...', '\t1', 'a\tb',
    '[', ']', '{', "'", '"',
]
KEYS = [
    '', '.', '..', 'a', '0', '1e3', 'null', 'true', '_base_', '<<', 'model..lr', 'model.', '.model', '[0]',
    'optim[0]', 'optim.lr[0]', 'optim.lr.0', 'data.augment.short.0', 'data.augment.short[0]',
    'data.augment.short.7', 'data.augment.short.-1', 'task', 'task.a', 'schedule.milestones.0',
    'schedule.milestones[0]', 'schedule.milestones[a]', 'schedule.milestones[', 'model]', 'optim.lr ', ' task',
    'model.backbone', 'model.backbone.name', 'data', 'data.name', 'name', 'model', 'alternating',
    'alternating.steps', 'eval', 'ü', 'a b', '${a}', '\ud800', '\x00',
]
