"""How training ends when it does not reach its last epoch."""


class TrainingFailure(RuntimeError):
    """Training cannot go on; the text says where it stopped, what is intact and why."""


class Interrupted(Exception):
    """Training was asked to stop, and did so after a checkpoint; the text says how to go on."""
