"""Users of programs: finds the ids of Docker's USER, and gives up root for them."""

from __future__ import annotations

import os
import re
from typing import List, NamedTuple, Optional

from processing.container.shim.errors import ShimError

_USER = re.compile(r"([A-Za-z_][A-Za-z0-9._-]*|[0-9]+)?(?::([A-Za-z_][A-Za-z0-9._-]*|[0-9]+))?")


class User(NamedTuple):
    """A user of the system.

    Attributes:
        uid: the user's id; None for that of the shim.
        gid: the group's id; None for that of the shim.
        home: the home folder; None if the user has none.
        groups: all groups of the user.
    """

    uid: Optional[int]
    gid: Optional[int]
    home: Optional[str]
    groups: List[int]


def find_user(text: str) -> Optional[User]:
    """Return the user of Docker's USER instruction; None for an empty text.

    An id need not be in the image's list of users. A user without a group in the text has the group of that list, or
    group 0, as in Docker.

    Raises:
        ShimError: the text has another form, or the image has no user or group of the name.
    """
    if not text:
        return None
    found = _USER.fullmatch(text)
    if found is None:
        raise ShimError("setup", "The user %r is not of the form user:group" % text)
    name, group = found.groups()
    user = User(None, None, None, []) if name is None else _find_user(name)
    gid = user.gid if group is None else _find_group(group)
    groups = [] if gid is None else [gid]
    return user._replace(gid=gid, groups=groups + [each for each in user.groups if each != gid])


def become(user: User, *, extra_groups: bool) -> None:
    """Change this process to a user. A process that already is that user needs no rights for it."""
    if os.geteuid() == 0:
        os.setgroups(user.groups if extra_groups else user.groups[:1])
    if user.gid is not None and user.gid != os.getegid():
        os.setgid(user.gid)
    if user.uid is not None and user.uid != os.geteuid():
        os.setuid(user.uid)


def _find_user(name: str) -> User:
    try:
        import pwd
    except ImportError:  # a Python that was built without it
        pwd = None  # type: ignore[assignment]
    entry = None
    if pwd is not None:
        try:
            entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except KeyError:
            entry = None
    if entry is not None:
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return User(entry.pw_uid, entry.pw_gid, entry.pw_dir, groups)
    if not name.isdigit():
        raise ShimError("setup", "The image has no user %r" % name)
    return User(int(name), 0, "/", [0])


def _find_group(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        import grp

        return grp.getgrnam(name).gr_gid
    except (ImportError, KeyError):
        raise ShimError("setup", "The image has no group %r" % name) from None
