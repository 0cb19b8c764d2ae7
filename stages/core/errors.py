"""The one error that is the user's to mend."""


class UserError(Exception):
    """What is wrong, where, and how to mend it: shown as it is, without a traceback, exit 2.

    Of several mistakes a line each; a line may hold the name of a file, and that anything.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)

    @property
    def lines(self) -> tuple[str, ...]:
        """One line a mistake."""
        return self.args

    def __str__(self) -> str:
        return "\n".join(self.args)
