"""A sweep that trains in a second, for tests of what runs it."""

SMALL = """
sweep: @NAME
run:
  data: {name: digits, samples_per_class: 4}
  target: {width: 0.125}
  training: {epochs: 2, batch_size: 16}
  record: {evaluations: 0}
grid:
  - method: [scratch]
    seed: {from: 0, to: @LAST}
"""


def small(name, last):
    """Its text, with seeds from 0 to `last`."""
    return SMALL.replace("@NAME", name).replace("@LAST", str(last))
