"""JSON in which a value has another type than it should have."""

import itertools
import json

ODD = (None, 1, -1e400, "x", [], {}, [1], {"a": 1}, [[]], True)


def with_odd_values(value):
    """The value with each of its values replaced by three others in turn."""
    others = itertools.cycle(ODD)
    text = json.dumps(value)
    for path in list(_paths(value)):
        for odd in itertools.islice(others, 3):
            changed = inner = json.loads(text)
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = odd
            yield changed


def _paths(value, at=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, key)
        yield from _paths(item, (*at, key))
