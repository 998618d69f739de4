"""Entry point of every command: parses flags, and reports errors in one line.

Exit status: 0 success; 1 unusable input or a full disk (one line says what to do); 2 an invalid
flag; 130 stopped by SIGINT or 143 by SIGTERM after saving (rerun the same command to resume).
"""

from __future__ import annotations

import dataclasses
import errno
import io
import logging
import os
import sys
import textwrap
import warnings
from collections.abc import Callable
from typing import Any

from absl import app
from absl import flags as absl_flags
from absl import logging as absl_logging

from mgta_tf import config as config_lib
from mgta_tf import flagfiles
from mgta_tf.errors import UserError, cause_of, one_line
from mgta_tf.runtime import preemption

# Raised by TensorFlow on the other hosts when a host is lost.
LOST_HOST = ("UnavailableError", "AbortedError", "InternalError")


def run(
    main: Callable[[Any], None],
    config_class: type,
    read: Callable[[type], Any] = config_lib.from_flags,
) -> None:
    """Parses the command line into `config_class` and calls `main` with it.

    A command that chooses values for its images passes `config.leaves` as `read`; its `main` gets a
    dict of the flags.
    `UserError` and file system errors end the process with one line on stderr and exit status 1.
    """
    quiet_libraries()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # replace characters that a terminal cannot show
            stream.reconfigure(errors="replace")
    config_lib.define(config_class)

    def parse(argv: list[str]) -> list[str]:
        asked = {word.lstrip("-") for word in argv[1:] if word.startswith("-")}
        if asked & {"help", "h", "helpshort", "help=all"}:
            print(help_text(config_class, everything="help=all" in asked))
            sys.exit(0)
        try:
            rest = absl_flags.FLAGS(flagfiles.expand(argv))
        except (absl_flags.Error, UserError) as error:
            fail(str(error), status=2)
        if rest[1:]:
            fail(f"unexpected argument {rest[1]!r}; flags begin with --", status=2)
        return rest

    def guarded(argv: list[str]) -> None:
        del argv
        try:
            preemption.install()
            main(read(config_class))
        except UserError as error:
            fail(str(error))
        except OSError as error:
            if error.errno is None:  # not raised by the operating system
                raise
            unwritten = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
            where = f"cannot write {error.filename or ''}" if unwritten else error.filename
            fail(f"{where}: {os.strerror(error.errno)}")
        except preemption.Stopped as stopped:
            leave(f"{stopped}; rerun the same command to resume", status=stopped.exit_status)
        except Exception as error:
            if os.environ.get("TF_CONFIG") and type(error).__name__ in LOST_HOST:
                fail(f"a host was lost ({cause_of(error)}); rerun the command on all hosts")
            # TensorFlow's file system only puts the system's message into its own.
            reasons = map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))
            reason = next((reason for reason in reasons if reason in str(error)), None)
            if not reason:
                raise
            fail(f"{reason}; fix the cause and rerun the same command")

    app.run(guarded, flags_parser=parse)


def fail(message: str, status: int = 1) -> None:
    """Prints one line that says what is wrong to stderr, and exits."""
    leave(f"error: {message}", status)


def leave(message: str, status: int) -> None:
    """Prints one line to stderr and exits."""
    print(f"mgta_tf: {one_line(message)}", file=sys.stderr, flush=True)
    sys.exit(status)


def quiet_libraries() -> None:
    """Silences banners and warnings of TensorFlow and other libraries.

    ``python -W`` still shows Python warnings.
    """
    absl_logging.set_verbosity(absl_logging.ERROR)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # Of a file that Pillow cannot read, the reason is counted and listed.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


def help_text(config_class: type, everything: bool = False) -> str:
    """The help page: flags by group with defaults; with `everything`, also the advanced flags."""
    main_doc = (sys.modules["__main__"].__doc__ or "").strip()
    lines, hidden = [main_doc, ""] if main_doc else [], 0
    for owner, fields in config_lib.groups(config_class):
        shown = [field for field in fields if everything or not field.metadata["advanced"]]
        hidden += len(fields) - len(shown)
        if not shown:
            continue
        lines += [(owner.__doc__ or owner.__name__).strip().splitlines()[0], ""]
        for field in shown:
            lines += [_flag_line(field)]
            lines += textwrap.wrap(
                field.metadata["help"], 90, initial_indent="      ", subsequent_indent="      "
            )
        lines += [""]
    if hidden:
        lines += [f"--help=all also lists the advanced flags ({hidden})."]
    lines += ["Also --flagfile=FILE: one flag per line, # for comments. --helpfull: all of absl's."]
    return "\n".join(lines)


def _flag_line(field: dataclasses.Field[Any]) -> str:
    choices = field.metadata["choices"]
    default = field.metadata["auto"] or field.default
    if isinstance(default, bool):
        return f"  --[no]{field.name}  (default {str(default).lower()})"
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    kind = type(field.default).__name__.upper()
    shape = "|".join((*(choices or (kind,)), *config_lib.words_for(field)))
    return f"  --{field.name}={shape}  (default {default if default != '' else 'none'})"
