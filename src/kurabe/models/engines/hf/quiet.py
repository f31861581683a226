"""Transformers without its noise: no progress bars, no log lines and no warnings while a model is loaded or saved."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LOUD: Final = (
    "transformers", "sentence_transformers", "accelerate", "peft", "bitsandbytes", "torch", "torchao", "huggingface_hub"
)  # fmt: skip
_lock = threading.RLock()  # the switches are the process's, so two threads must not turn them at once


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries silent inside; afterwards they are as talkative as they were."""
    import torch  # noqa: F401 - importing it sets the levels of its loggers again
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging as switches

    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bars, hub_bars = switches.is_progress_bar_enabled(), not are_progress_bars_disabled()
        levels = {name: logging.getLogger(name).level for name in _LOUD}
        try:
            for name in _LOUD:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            switches.disable_progress_bar()
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            if bars:
                switches.enable_progress_bar()  # the hub's with them
            if bars and not hub_bars:
                disable_progress_bars()
