"""The one exception that means: the user can put this right."""


class UserError(Exception):
    """Bad input. The message is one line that names the file, flag or value and what to do.

    `mgta_tf.cli.run` prints it without a traceback and exits with status 1.
    """
