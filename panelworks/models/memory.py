"""How much of an accelerator's memory this process took."""

import sys


def gpu_memory() -> int | None:
    """Most bytes of GPU memory that torch held so far; None where no GPU was used.

    torch is asked only if it was imported: importing it to learn that it was not used costs seconds.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())


def forget_gpu_peak() -> None:
    """Let `gpu_memory` count from now on."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
