"""What can go wrong for an operator, and the exit status that scripts rely on.

Each error is one sentence and, where there is one, the next step. The exit status says whose turn it is:

    0  done, or all is well
    1  the answer is "no": no verified master, refused, not healthy
    2  wrong usage or bad input: the caller's turn
    3  the collector cannot be reached
    4  the collector, or its answer, is at fault
"""

OK = 0


class CommandError(Exception):
    """A command that ends without what it was asked for: a sentence, a next step (may be empty), an exit status."""

    exit_status = 4

    def __init__(self, sentence: str, next_step: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next_step = next_step


class AnswerIsNo(CommandError):
    """The collector was asked, and the answer is no. ``code``: a refusal's stable word, where there is one."""

    exit_status = 1

    def __init__(self, sentence: str, next_step: str = "", code: str = "") -> None:
        super().__init__(sentence, next_step)
        self.code = code


class BadInput(CommandError):
    """Unknown or ambiguous name, wrong option, missing file: nothing was done."""

    exit_status = 2


class Unreachable(CommandError):
    """No collector answers at that address; nothing is known about what it would have said."""

    exit_status = 3


class CannotTell(Unreachable):
    """Of several collectors one that matters does not answer the one that was asked, so nothing was done."""


class CollectorFault(CommandError):
    """The collector answered with an error of its own."""

    exit_status = 4
