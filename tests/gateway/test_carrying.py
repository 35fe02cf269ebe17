"""The thread that has the controller take its turns: nothing without a canary, on after a fault, the lease given back at the end."""

from __future__ import annotations

import threading

from workbench.errors import StoreError
from workbench.gateway.carrying import CarryLoop

LONGEST_S = 30


class Turns:
    """A controller that fails at its first turn."""

    def __init__(self) -> None:
        self.n, self.has_resigned, self.is_leading = 0, False, True
        self.third = threading.Event()

    def turn(self) -> None:
        self.n += 1
        if self.n == 1:
            raise StoreError("ledger", seen="it is locked")
        if self.n == 3:
            self.third.set()

    def resign(self) -> None:
        self.has_resigned = True


def test_a_turn_that_fails_is_followed_by_the_next_and_the_lease_is_given_back():
    turns = Turns()
    with CarryLoop(lambda: turns, turn_s=0.001) as loop:
        assert turns.third.wait(LONGEST_S)
    assert turns.has_resigned
    assert (loop.status.is_on, loop.status.is_leading, loop.status.fault) == (True, True, None)


def test_no_controller_is_made_while_there_is_nothing_to_carry():
    asked, made = threading.Event(), []

    def is_needed() -> bool:
        asked.set()
        return False

    with CarryLoop(lambda: made.append(1), is_needed=is_needed, turn_s=0.001):
        assert asked.wait(LONGEST_S)
    assert made == []
    with CarryLoop(None) as loop:
        assert not loop.status.is_on
