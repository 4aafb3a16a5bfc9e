"""A limit on time ends work that would never end."""

import threading
from collections.abc import Callable

import pytest

from pipeline.export.time_limit import TimeLimitError, time_limit


def endless() -> None:
    while True:
        pass


def endless_whatever_is_raised() -> None:
    while True:
        try:
            endless()
        except Exception:  # as libraries do
            continue


@pytest.mark.parametrize("work", [endless, endless_whatever_is_raised])
def test_work_that_never_ends_is_one_clear_line(work: Callable[[], None]) -> None:
    expected = pytest.raises(TimeLimitError, match=r"took more than 0\.05 s; raise export\.int8_seconds$")
    with expected, time_limit(0.05, "export.int8_seconds"):
        work()


def test_work_that_ends_in_time_is_left_alone() -> None:
    with time_limit(60, "export.int8_seconds"):
        pass
    with pytest.raises(KeyError), time_limit(60, "export.int8_seconds"):
        {}["its own error"]


def test_another_thread_has_no_limit() -> None:
    done = []

    def work() -> None:
        with time_limit(0.01, "export.int8_seconds"):
            done.append(threading.Event().wait(0.1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]
