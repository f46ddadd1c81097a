"""The action in a filter of the audit trail."""

from server.observe.audit import Action


class ActionWord(str):
    """One of the values of Action."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> "ActionWord":
        if value not in list(Action):
            raise ValueError("must be one of: " + ", ".join(Action))
        return cls(value)

    schema = {"type": "string", "enum": [action.value for action in Action]}  # noqa: RUF012 - a constant, never changed
