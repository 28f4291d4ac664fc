"""URLs as they may be shown."""

import re


def shown(url: str) -> str:
    """The URL without the user and password that it may hold."""
    return re.sub(r"//[^/@]*@", "//", url)
