"""The one layer of retries: which faults are worth another try, and how long to wait before it."""

import random
from collections.abc import Callable

from kurabe.errors import (
    AnswerTooLargeError,
    CallTimeoutError,
    ConnectionFailedError,
    CutStreamError,
    ProviderError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    UnreadableAnswerError,
)
from kurabe.models.hosted.transport.policy import USUAL, Policy

ATTEMPTS = 4


def worth_retrying(error: ProviderError) -> bool:
    """Whether the same request may well succeed later, without being paid twice.

    A chat call changes nothing at the provider, so a repeat is safe after any fault that the provider answered with,
    and after a lost connection. Our own time-out is different: the provider may still be at work on an answer that will
    be paid for, so only a connection that was never made is tried again. What the provider itself says
    (`x-should-retry`, which the openai and anthropic SDKs obey) comes first.
    """
    if isinstance(error, AnswerTooLargeError):
        return False
    if error.should_retry is not None:
        return error.should_retry
    if isinstance(error, QuotaExceededError):
        return False
    if isinstance(error, CallTimeoutError):
        too_late_for_a_turn = not error.sent and error.retry_after is not None
        return error.status is not None or (not error.sent and not too_late_for_a_turn)
    if isinstance(
        error, RateLimitedError | ServerError | ConnectionFailedError | UnreadableAnswerError | CutStreamError
    ):
        return True
    return error.status == 409


def delay(
    error: ProviderError, attempt: int, policy: Policy = USUAL, chance: Callable[[], float] = random.random
) -> float | None:
    """Seconds before attempt number `attempt + 1`, or None where the provider asks for more than the policy's
    patience."""
    wait = chance() * min(policy.longest_wait, policy.first_wait * 2.0 ** (attempt - 1))
    if error.retry_after is None:
        return wait
    return None if error.retry_after > policy.patience else error.retry_after + wait
