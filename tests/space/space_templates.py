"""Random templates for property tests: every construct of the grammar, small enough to enumerate now and then.

They are drawn by a seeded generator: building them from Hypothesis' own strategies takes a hundred times as long.
"""

import json
import random

from hypothesis import strategies as st

SCALARS = [1, 2, 3, 5, 0.5, 1.5, True, False, "relu", "silu"]
OPERATORS = ["conv", "depthwise", "max_pool"]


def templates():
    """Strategy for templates that the grammar accepts."""
    return st.integers(0, 2**40).map(random_template)


def random_template(seed):
    return _Writer(random.Random(seed)).template()


class _Writer:
    def __init__(self, rng):
        self.rng = rng
        self.usable = {"part", "value", "count"}

    def template(self):
        network = [self.stage(2) for _ in range(self.rng.randint(1, 3))]
        template = {"network": network}
        definitions = {}
        self.usable = {"value", "count"}
        part = self.stage(1)
        if _uses(network, "part"):
            definitions["part"] = part
        self.usable = set()
        for name, draw in (("value", lambda: self.value(2)), ("count", self.times)):
            if _uses([network, definitions], name):
                definitions[name] = draw()
        if definitions:
            template["define"] = definitions
        resolution = self.rng.choice([None, 16, self.hole(lambda: self.rng.choice([8, 16, 0.5, 1.0]))])
        return template if resolution is None else template | {"input": {"resolution": resolution}}

    def hole(self, draw, most=3):
        options = {}
        for _ in range(self.rng.randint(1, most)):
            option = draw()
            options[json.dumps(option)] = option
        return {"choose": list(options.values())}

    def used(self, name, chance):
        return name in self.usable and self.rng.random() < chance

    def value(self, depth):
        if self.used("value", 0.2):
            return {"use": "value"}
        if depth and self.rng.random() < 0.5:
            return self.hole(lambda: self.value(depth - 1))
        return self.rng.choice(SCALARS)

    def times(self):
        if self.used("count", 0.3):
            return {"use": "count"}
        counts = self.rng.sample(range(4), self.rng.randint(1, 3))
        return {"choose": counts} if max(counts) and self.rng.random() < 0.7 else max(1, counts[0])

    def operator(self):
        op = self.hole(lambda: self.rng.choice(OPERATORS)) if self.rng.random() < 0.2 else self.rng.choice(OPERATORS)
        names = self.rng.sample(["kernel", "groups"], self.rng.randrange(3))
        return {"op": op, **{name: self.value(1) for name in names}}

    def block(self):
        return self.hole(self.operator) if self.rng.random() < 0.3 else self.operator()

    def stage(self, depth):
        if self.used("part", 0.15):
            return {"use": "part"}
        kinds = [lambda: "identity", self.operator, self.operator, self.cell]
        if depth:
            kinds += [
                lambda: [self.stage(depth - 1) for _ in range(self.rng.randrange(3))],
                lambda: self.hole(lambda: self.stage(depth - 1)),
                lambda: self.hole(lambda: self.stage(depth - 1)),
                lambda: {"repeat": {"times": self.times(), "block": self.stage(depth - 1)}},
                lambda: {"repeat": {"times": self.times(), "block": self.block(), "first": {"stride": self.value(1)}}},
            ]
        return self.rng.choice(kinds)()

    def edge(self):
        return self.rng.choice([lambda: "none", lambda: "identity", self.operator])()

    def edges(self):
        return self.hole(self.edge) if self.rng.random() < 0.6 else self.edge()

    def cell(self):
        pairs = self.rng.sample(["0>1", "0>2", "1>2"], self.rng.randint(1, 3))
        edges = {pair: self.edges() for pair in pairs} if self.rng.random() < 0.5 else self.edges()
        return {"cell": {"nodes": 3, "edges": edges}}


def _uses(raw, name):
    return json.dumps({"use": name}) in json.dumps(raw)
