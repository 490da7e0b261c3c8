class InputError(ValueError):
    """What the user gave cannot be used. The message says what was wanted, what was found and what to do.

    Entries print it without a traceback; any other exception is a fault of ours and keeps its traceback.
    """
