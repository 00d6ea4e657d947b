"""How training ends when it does not reach its last epoch."""


class TrainingFailure(RuntimeError):
    """Training cannot go on; the text says where it stopped, what is intact and why."""


class Interrupted(Exception):
    """Training was asked to stop, and did so after a checkpoint; the text says how to go on."""


class Elsewhere(Exception):
    """Another process of the run has what is to be said of its end.

    Attributes:
        is_interrupt: Whether it was asked to stop.
    """

    def __init__(self, message: str, is_interrupt: bool = False) -> None:
        super().__init__(message)
        self.is_interrupt = is_interrupt
