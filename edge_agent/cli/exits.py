"""What a command's exit code means, and the error that carries one."""

from __future__ import annotations

from edge_agent.core.errors import EdgeAgentError, Fault

OK = 0
ERROR = 1
USAGE = 2  # argparse says it
CHECK_FAILED = 3
WARNINGS = 4
NOT_RUNNING = 5
REFUSED = 6  # signature, policy, permission
NOTHING_TO_DO = 7
INTERRUPTED = 130  # 128 + SIGINT, as a shell has it

MEANINGS = {
    OK: "done",
    ERROR: "error",
    USAGE: "wrong usage",
    CHECK_FAILED: "a check failed",
    WARNINGS: "warnings only",
    NOT_RUNNING: "the daemon does not run",
    REFUSED: "refused: signature, policy, permission or a bad package",
    NOTHING_TO_DO: "nothing to do",
    INTERRUPTED: "interrupted",
}


class CommandError(EdgeAgentError):
    """A command ends here: message and hint go to stderr, `code` to the shell.

    fault: whose it was, where the daemon said so.
    """

    def __init__(
        self, message: str, *, hint: str = "", code: int = ERROR, fault: Fault = "failed"
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.fault: Fault = fault
