"""Recognise memory running out: torch says so in several ways, depending on where and how it ran out."""

__all__ = ["is_out_of_memory"]

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that memory, of the machine or of an accelerator, has run out.

    torch.OutOfMemoryError is a RuntimeError that says so; the CPU's allocator raises a plain RuntimeError, and Python
    and the tokenizers raise MemoryError. No torch is imported to tell.
    """
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)
