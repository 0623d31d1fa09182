"""Orbax's manners: what it may say on the screen, and its errors as one line."""

import logging
import os
import re
import traceback


def quieten_orbax() -> None:
    """Keeps its warnings, and tracebacks of what is told anyway, off the screen."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(not_of_orbax)


def not_of_orbax(record: logging.LogRecord) -> bool:
    """False for what failed inside orbax: it is raised and told too, without pages of traceback."""
    trace = record.exc_info[2] if record.exc_info else None
    return not any("orbax" in frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace))


def one_line(error: BaseException) -> str:
    """What went wrong, in a line."""
    text = " ".join(str(error).split())
    code = re.search(r"os_error_code='(\d+)'", text)
    if code:  # tensorstore tells all paths first
        return os.strerror(int(code[1]))
    return text[:300] or type(error).__name__
