"""Turns: one at a time, in the order of coming."""

import threading
import time

from transformer_core.serving.turns import Turns


def test_one_at_a_time_in_the_order_of_coming() -> None:
    turns, order, inside = Turns(), [], 0

    def work(name: int) -> None:
        nonlocal inside
        with turns.turn():
            inside += 1
            assert inside == 1
            order.append(name)
            time.sleep(0.001)
            inside -= 1

    with turns.turn():
        threads = []
        for name in range(8):
            threads.append(threading.Thread(target=work, args=(name,)))
            threads[-1].start()
            while len(turns._waiting) < name + 2:  # it stands in the queue before the next one comes
                time.sleep(0.001)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_a_fault_passes_the_turn_on() -> None:
    turns = Turns()
    try:
        with turns.turn():
            raise ValueError
    except ValueError:
        pass
    with turns.turn():
        pass
