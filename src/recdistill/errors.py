"""What can go wrong, the exit code of each, and the shape of a message.

A message says what happened, where (``file:row:column`` or a config key), why, and what to type instead.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_BUG = 1
EXIT_INPUT = 2
EXIT_DIVERGED = 3
EXIT_RESOURCE = 4
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class RecDistillError(Exception):
    """An error that is shown to the user on one screen, without a traceback.

    Args:
        what: what happened, one sentence.
        where: the place: ``file:row:column`` or a config key.
        why: the reason, where it is not obvious.
        fix: the exact thing to type or change.
    """

    exit_code = EXIT_BUG

    def __init__(self, what: str, *, where: str | None = None, why: str | None = None, fix: str | None = None):
        # Positional too, so that the error survives pickling between processes.
        super().__init__(what, where, why, fix)
        self.what, self.where, self.why, self.fix = what, where, why, fix

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.why, self.fix)

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (("where", self.where), ("why", self.why), ("fix", self.fix)):
            if text:
                lines.append(f"  {label}: " + text.replace("\n", "\n" + " " * (len(label) + 4)))
        return "\n".join(lines)


def _rebuild(
    kind: type[RecDistillError], what: str, where: str | None, why: str | None, fix: str | None
) -> RecDistillError:
    return kind(what, where=where, why=why, fix=fix)


class InputError(RecDistillError):
    """The user's data, config or command line is wrong."""

    exit_code = EXIT_INPUT


class DivergedError(RecDistillError):
    """Training produced a loss that is not finite."""

    exit_code = EXIT_DIVERGED


class ParityError(RecDistillError):
    """An exported file does not answer as its model does."""

    exit_code = EXIT_DIVERGED


class ResourceError(RecDistillError):
    """Disk, memory, port or permission is missing."""

    exit_code = EXIT_RESOURCE


class InterruptedByUser(RecDistillError):
    """Ctrl-C; what was finished is kept."""

    exit_code = EXIT_INTERRUPTED


class Terminated(RecDistillError):
    """SIGTERM; a checkpoint was written where there was something to write."""

    exit_code = EXIT_TERMINATED
