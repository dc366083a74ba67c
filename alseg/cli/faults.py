"""Errors of the system, such as a full disk, as a sentence that says where and how to mend it."""

import errno
import re

_SPACE = "free some space there, or give another folder"
_RIGHTS = "give a folder that may be read and written, or change its permissions"
_FILES = "allow more open files (ulimit -n 4096), or give workers=0"
_MEMORY = "free some memory, or give fewer workers, smaller batches or smaller crops"
_SHARED = "give the container more shared memory (docker run --shm-size=1g), or give workers=0"
_NO_LOCKS = "the file system has no locks: give a folder on another one"
_MENDS = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "allow larger files (ulimit -f unlimited), or give another folder",
    errno.EROFS: "give a folder that can be written",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOTDIR: "a part of this path is a file: give a folder",
    errno.EISDIR: "this is a folder: give a file, or take it away",
    errno.EEXIST: "take it away, or give another folder",
    errno.ENOENT: "it may have been moved while the command was at work",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: _FILES,
    errno.ENFILE: "the machine has too many open files: close some programs",
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: "allow more processes (ulimit -u), or give workers=0",
    errno.EIO: "the disk or the network drive has failed: check it",
    errno.ESTALE: "the network drive has lost the file: check it",
    errno.ENOLCK: _NO_LOCKS,
    errno.ENOSYS: _NO_LOCKS,
    errno.EOPNOTSUPP: _NO_LOCKS,
    errno.ELOOP: "a link leads back to itself: take it away",
}
#: What libraries say without a number: a pattern, what is meant, and the mend.
_SAYINGS = (
    (r"exit code 24\b|[Tt]oo many open files", "too many open files", _FILES),
    (r"shared memory|torch_shm|is killed by signal: Bus error|exit code 28\b",
     "the shared memory (/dev/shm) is full", _SHARED),
    (r"exit code 12\b|can't allocate memory|[Cc]annot allocate memory|bad_alloc"
     r"|failed to map segment|is killed by signal: Killed", "not enough memory", _MEMORY),
    (r"out of memory", "the device has not enough memory",
     "give smaller batches or crops, or trainer.precision=bf16-mixed in another run_dir"),
    (r"can't start new thread", "too many processes",
     "allow more (ulimit -u), or give workers=0"),
    (r"DataLoader worker .*(killed by signal|exited unexpectedly)", "a loader process died",
     "allow more open files (ulimit -n 4096) and more memory, or give workers=0"),
)  # fmt: skip
_THEN = "then give the same command again."
_IN_WORKER = re.compile(r"Caught \w+ in \w+ worker process \d+")
_LAST_LINE = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt)\w*: ", re.MULTILINE)


def sentence_of(error: BaseException) -> str | None:
    """What to tell a user of an error that the system, not this program, is at fault for.

    Args:
        error: Anything that was raised.

    Returns:
        A sentence with the mend; None for what is no such error.
    """
    told = in_worker(error)
    if isinstance(error, OSError) and error.errno in _MENDS:
        return of_the_system(error)
    number = re.match(r"\[Errno (\d+)\] (.*)", told)
    if isinstance(error, OSError) and number and int(number[1]) in _MENDS:
        mend = _MENDS[int(number[1])]
        return f"{number[2]}; {mend}, {_THEN}"
    if isinstance(error, MemoryError):
        return f"not enough memory; {_MEMORY}, {_THEN}"
    if isinstance(error, RuntimeError | ImportError | OSError):
        # torch says that a loader process ended, and in an error before that how
        behind = error.__cause__ or error.__context__
        told = told if behind is None else f"{told}\n{behind}"
        for pattern, meant, mend in _SAYINGS:
            if re.search(pattern, told):
                return f"{meant}; {mend}, {_THEN}"
    return None if error.__cause__ is None else sentence_of(error.__cause__)


def in_worker(error: BaseException) -> str:
    r"""What an error says, without the traceback of the loader process it came from.

    >>> in_worker(ValueError("Caught ValueError in DataLoader worker process 0.\nOriginal "
    ...                      "Traceback (most recent call last):\n  ...\nValueError: no.\n"))
    'no.'
    """
    said = str(error)
    if not _IN_WORKER.match(said):
        return said
    *_, last = ["", *_LAST_LINE.split(said)]
    return last.strip()


def of_the_system(error: OSError) -> str:
    """An error of the operating system as a sentence that says where, and how to mend it.

    >>> print(of_the_system(OSError(errno.ENOSPC, "No space left on device", "runs/a")))
    runs/a: no space left on device; free some space there, or give another folder, then give the \
same command again.
    """
    reason = error.strerror or str(error) or type(error).__name__
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    where = f"{' and '.join(names)}: " if names else ""
    mend = _MENDS.get(error.errno or 0, "mend that")
    return f"{where}{reason[:1].lower()}{reason[1:]}; {mend}, {_THEN}"
