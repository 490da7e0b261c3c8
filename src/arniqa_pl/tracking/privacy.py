"""What a run tells others about itself names no home folder, no user and no password."""

import getpass
import re
from pathlib import Path
from typing import Any

_ABSOLUTE = r"(?<![\w.$~}/])/[^\s'\",;\])]*"  # a slash with nothing of a word before it, and on to the path's end
_USER_INFO = r"(?<=://)[^/@\s]+@"
_SECRET = r"([?&][^=&\s]*(?:password|passwd|token|secret|signature|credential|key)[^=&\s]*=)[^&\s]+"


def anonymous(value: Any) -> Any:
    """Return settings with $HOME for the home folder, $USER for the user's name in a path, and no credentials.

    Args:
        value: text, or dictionaries and lists with text in them; everything else stays as it is.

    """
    if isinstance(value, dict):
        return {key: anonymous(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [anonymous(each) for each in value]
    if not isinstance(value, str):
        return value
    text = re.sub(_SECRET, r"\1***", re.sub(_USER_INFO, "", value), flags=re.IGNORECASE)
    if len(home := str(Path.home())) > 1:
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "$HOME", text)
    if not (user := _user()):
        return text
    return re.sub(_ABSOLUTE, lambda path: re.sub(rf"/{re.escape(user)}(?![^/])", "/$USER", path[0]), text)


def personal(text: str) -> str:
    """Return text with this user's home folder and name where `anonymous` has taken them out."""
    return re.sub(r"\$USER\b", lambda _: _user(), re.sub(r"\$HOME\b", lambda _: str(Path.home()), text))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number only
        return ""
