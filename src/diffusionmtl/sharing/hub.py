"""Runs on the Hugging Face Hub: one repository each, laid out like the run folder, so that it is one when fetched.

The address of the hub (`HF_ENDPOINT`), the token (`HF_TOKEN`, or `hf auth login`), the cache (`HF_HOME`) and working
offline (`HF_HUB_OFFLINE`) are settings of `huggingface_hub`, which does all the transport. It is a core dependency
because timm needs it anyway. No file but those of `contents` is ever asked for: a repository may hold pickles or code,
they stay there.
"""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from diffusionmtl.errors import UserError, in_one_line
from diffusionmtl.sharing.contents import LIST, Entry, check_files, check_size, needed, read_list

PREFIX = "hf://"
_NAME = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[\w.][\w./-]{0,99}))?", re.ASCII
)
_LOG_IN = "log in with 'hf auth login' or set HF_TOKEN"
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "requests", "urllib3", "hf_xet")
_NOT_OURS = {".gitattributes", "README.md"}

T = TypeVar("T")


@dataclass(frozen=True)
class HubName:
    """A repository, and which state of it: a branch, a tag or a commit; the newest if None."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(run: object) -> bool:
    """Whether this names a repository; `pathlib` makes one slash of two."""
    return str(run).startswith("hf:/")


def hub_name(text: str) -> HubName:
    """`hf://user/name`, `hf://user/name@revision`, or either without `hf://`.

    Raises:
        UserError: it is no such name.
    """
    found = _NAME.fullmatch(re.sub(r"^hf:/+", "", text))
    if not found or ".." in text:
        raise UserError(f"{text}: not the name of a repository; write {PREFIX}user/name, or {PREFIX}user/name@revision")
    return HubName(found["repo"], found["revision"])


def fetch_run(name: HubName, checkpoint: str | None = None) -> tuple[Path, dict[str, Entry]]:
    """Get a run, or just what predicting with `checkpoint` takes, into the cache of the hub.

    What is there already is not fetched again, and is all that is needed where nothing can be reached.

    Returns:
        The folder in the cache, which is not to be written to, and the files of the run.

    Raises:
        UserError: it cannot be reached, does not exist, may not be read, is not a run, is damaged or too large.
    """
    api = _api()
    online = _announce(api, name, [LIST], name.revision)

    def get(file: str, revision: str | None) -> Path:
        fetched = _asked(
            name, lambda: api.hf_hub_download(name.repo, file, revision=revision, local_files_only=not online)
        )
        return Path(str(fetched))

    found = get(LIST, name.revision)
    check_size(LIST, found.stat().st_size, str(name))
    files = read_list(found.read_bytes(), str(name))
    # The list and the files are of one commit, whatever is pushed in the meantime.
    commit = found.parent.name
    chosen = list(files) if checkpoint is None else needed(files, checkpoint, str(name))
    if online:
        _announce(api, name, chosen, commit)
    for file in chosen:
        get(file, commit)
    check_files(found.parent, files, str(name), chosen)
    return found.parent, files


def push_run(folder: Path, names: Iterable[str], name: HubName, private: bool, message: str) -> str:
    """Make a repository if there is none, and put the files of a folder into it, in one commit.

    Returns:
        The address of the repository.

    Raises:
        UserError: the hub cannot be reached, does not let us, or keeps something else under this name.
    """
    api = _api()
    _asked(name, lambda: api.create_repo(name.repo, private=private, exist_ok=True))
    there = set(_asked(name, lambda: api.list_repo_files(name.repo)))
    if there - _NOT_OURS and LIST not in there:
        raise UserError(f"{name}: holds something other than a run already; name another repository")
    operations = [CommitOperationAdd(file, folder / file) for file in sorted([LIST, *names])]
    _asked(name, lambda: api.create_commit(name.repo, operations, commit_message=message))
    return f"{api.endpoint}/{name.repo}"


def _api() -> HfApi:
    # huggingface_hub reads its address once, when it is imported; whoever sets it later means it too.
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="diffusionmtl")


def _announce(api: HfApi, name: HubName, files: list[str], revision: str | None) -> bool:
    """See how large files are before any of them is fetched, whatever the list says; whether anybody could be asked."""
    try:
        found = api.get_paths_info(name.repo, files, revision=revision)
    except Exception as error:  # huggingface_hub hands on what its transport throws, which changes with its version
        if _silent(error):
            return False
        raise _explained(error, name) from error
    for file in found:
        check_size(file.path, getattr(file, "size", 0), str(name))
    return True


def _asked(name: HubName, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except Exception as error:  # as above; what goes wrong in one of several uploads comes wrapped
        cause = error.__cause__ if type(error) is RuntimeError else None
        raise _explained(cause if isinstance(cause, Exception) else error, name) from error


def _silent(error: Exception) -> bool:
    """Whether nobody answered, or nobody who was able to."""
    if isinstance(error, HfHubHTTPError):
        return _status(error) >= 500
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _TRANSPORTS


def _status(error: Exception) -> int:
    return getattr(getattr(error, "response", None), "status_code", None) or 0


def _explained(error: Exception, name: HubName) -> Exception:
    where = f"{_api().endpoint}/{name.repo}"
    status = _status(error)
    if isinstance(error, GatedRepoError):
        return UserError(f"{name}: its owner lets only some read it; ask for access at {where}, then {_LOG_IN}")
    if isinstance(error, RepositoryNotFoundError):
        return UserError(f"{name}: no such repository, or a private one; check the name, or {_LOG_IN}")
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"{name}: has no revision '{name.revision}'; see {where}/commits/main")
    if isinstance(error, LocalEntryNotFoundError) or _silent(error):
        reason = "it is not in the cache either" if isinstance(error, LocalEntryNotFoundError) else in_one_line(error)
        return UserError(f"{name}: {_api().endpoint} cannot be reached ({reason}); check the network or HF_ENDPOINT")
    if isinstance(error, EntryNotFoundError):
        return UserError(f"{name}: has no {LIST} or a file that it lists; only what 'diffusionmtl push' wrote is read")
    if status in (401, 403):
        return UserError(f"{name}: the hub refuses ({status}); {_LOG_IN} with a token that may write there")
    return (
        UserError(f"{name}: the hub answered {in_one_line(error)}")
        if status or isinstance(error, ValueError)
        else error
    )
