class InputError(ValueError):
    """What the user gave cannot be used. The message says what was wanted, what was found and what to do.

    Entries print it without a traceback; any other exception is a fault of ours and keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        # A loader's worker sends its traceback as the message, with ours at the end.
        super().__init__(message.rpartition("InputError: ")[2].strip())
