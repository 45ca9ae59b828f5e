"""What the program says of errors that are neither a user's mistake nor its own: a full disk, a missing package."""

import errno
from collections.abc import Container

EXTRAS = {"lightning": "train", "tensorboard": "train", "ray": "scale", "fsspec": "scale"}
EXTRAS |= dict.fromkeys(("gradio", "fastapi", "starlette", "uvicorn"), "demo")
EXTRAS |= dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "export")
DENIED = "you may not do this there; change its permissions, or choose another place"
FULL = "make room there, or choose another place"
# What a disk or its owner answers; other errors of the operating system are mistakes of this program.
DISK = {"EACCES": DENIED, "EPERM": DENIED, "EROFS": DENIED, "ENOSPC": FULL, "EDQUOT": FULL, "EFBIG": FULL}
DISK |= dict.fromkeys("EIO EEXIST EISDIR ENOTDIR ENAMETOOLONG".split(), "choose another place")
# What needs less memory, in the order of what it costs; a command says those of its own options.
SAVING = {
    "--checkpoint-activations": "--checkpoint-activations true",
    "--batch": "a smaller --batch or --size",
    "--tile": "--tile 512 512",
    "--samples": "fewer --samples",
    "--jobs": "fewer --jobs",
    "--device": "--device cpu",
}
# torch has a type for the memory of GPUs alone, and none for what the libraries below it say.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


def explained(error: BaseException, options: Container[str]) -> str | None:
    """One line that says what to do; None for what is a mistake of this program.

    Args:
        options: those of the command that failed.
    """
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").split(".")[0]
        extra = EXTRAS.get(package)
        return f"needs {package}, which is not installed: pip install 'diffusionmtl[{extra}]'" if extra else None
    if isinstance(error, MemoryError | RuntimeError) and _lacks_memory(error):
        where = "the GPU" if "CUDA" in str(error) else "this machine"
        less = [words for option, words in SAVING.items() if option in options and _helps(option, where)]
        return f"{where} has not enough memory for this; try {', or '.join(less) or 'smaller images'}"
    if isinstance(error, OSError):
        advice = DISK.get(errno.errorcode.get(error.errno or 0, ""))
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}; {advice}" if advice else None
    return None


def _lacks_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)


def _helps(option: str, where: str) -> bool:
    return option != "--device" or where == "the GPU"
