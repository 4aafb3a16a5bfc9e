"""zarr in the calling thread: each call of it starts no task in another and waits for none.

Its own way is a thread with an event loop and more threads for files and codecs, which is quick for
large arrays and takes most of the time of tests, whose arrays are small.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that does at once what others hand to threads."""

    def run_in_executor(self, executor: object, work: Callable[..., Any], *arguments: Any) -> "asyncio.Future[Any]":
        done = self.create_future()
        try:
            done.set_result(work(*arguments))
        except Exception as error:
            done.set_exception(error)
        return done


class AsyncioHere:
    """The `asyncio` of zarr.core.sync, with a way of its own to run a coroutine."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def run_coroutine_threadsafe(self, work: Coroutine[Any, Any, Any], loop: object) -> "Future[Any]":
        """Runs the coroutine to its end."""
        here, done = _Loop(), Future[Any]()
        try:
            done.set_result(here.run_until_complete(work))
        finally:
            here.close()
        return done
