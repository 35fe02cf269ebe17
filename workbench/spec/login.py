"""Whose process is this? As the system knows it, whatever the environment says."""

from __future__ import annotations

import os
import pwd


def login_of_process() -> str:
    """The login of the user whose rights this process has; `uid:NUMBER` for a user without a name.

    LOGNAME and USER do not count: everybody sets those to what they like.
    """
    user = os.geteuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid:{user}"
