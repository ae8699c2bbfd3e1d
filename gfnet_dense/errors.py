"""The one exception that stands for a user's mistake."""


class InputError(ValueError):
    """Bad input, told in one sentence: what was given, what is accepted, what to do.

    The command lines print the sentence alone and exit with a non-zero code; anything else that
    is raised is a defect of the program and keeps its traceback.
    """
