"""The threads that compiled steps share: they wait in native code, without Python's lock, for a part of a kernel.

A step publishes functions, runs the first itself and waits for the others. Waiting threads spin for some microseconds,
since the next kernel usually follows at once, and then sleep. After ``fork`` a child has no such threads: it runs all
parts itself.
"""

from __future__ import annotations

import atexit
import ctypes
import enum
import os
import platform
import threading
import time
from collections.abc import Callable

import numpy as np

from ..core import threads
from ..errors import message
from . import native

__all__ = ["Pool", "available", "pool"]


class Word(enum.IntEnum):
    """The words of the pool's memory, for Python and native code alike. What different threads write lies eight apart:
    on cache lines of its own."""

    EPOCH = 0  # grows when there are parts to do, or the threads shall end
    SLEEPERS = 8  # how many threads sleep
    PENDING = 16  # how many parts are under way
    COUNT = 24  # how many threads a step may count on, its own included; 0: the others shall end
    TABLE = 25  # what the functions get
    FUNCTIONS = 26  # the parts' functions
    MUTEX = 32
    CONDITION = 48
    BEGUN = 64  # how many threads have come to native code


_PLACES = "\n".join(f"  %at.{word.name.lower()} = getelementptr i64, ptr %pool, i64 {word.value}" for word in Word)
_TEXT = """
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @sched_yield()
PAUSE_DECLARATION

define void @work(ptr %pool, i64 %number) {
entry:
  PLACES
  atomicrmw add ptr %at.begun, i64 1 seq_cst
  br label %wait
wait:
  %seen = phi i64 [0, %entry], [%epoch, %task]
  br label %spin
spin:
  %i = phi i64 [0, %wait], [%next, %again]
  %epoch1 = load atomic i64, ptr %at.epoch seq_cst, align 8
  %new = icmp ne i64 %epoch1, %seen
  br i1 %new, label %go, label %again
again:
  PAUSE
  %next = add i64 %i, 1
  %tired = icmp ugt i64 %next, 3000
  br i1 %tired, label %sleep, label %spin
sleep:
  call i32 @pthread_mutex_lock(ptr %at.mutex)
  atomicrmw add ptr %at.sleepers, i64 1 seq_cst
  br label %look
look:
  %epoch2 = load atomic i64, ptr %at.epoch seq_cst, align 8
  %come = icmp ne i64 %epoch2, %seen
  br i1 %come, label %wake, label %rest
rest:
  call i32 @pthread_cond_wait(ptr %at.condition, ptr %at.mutex)
  br label %look
wake:
  atomicrmw sub ptr %at.sleepers, i64 1 seq_cst
  call i32 @pthread_mutex_unlock(ptr %at.mutex)
  br label %go
go:
  %epoch = load atomic i64, ptr %at.epoch seq_cst, align 8
  %alive = load i64, ptr %at.count, align 8
  %stop = icmp eq i64 %alive, 0
  br i1 %stop, label %end, label %task
task:
  %functions = load ptr, ptr %at.functions, align 8
  %place = getelementptr ptr, ptr %functions, i64 %number
  %function = load ptr, ptr %place, align 8
  %table = load ptr, ptr %at.table, align 8
  call void %function(ptr %table)
  atomicrmw sub ptr %at.pending, i64 1 seq_cst
  br label %wait
end:
  ret void
}

define void @fork(ptr %pool, ptr %table, ptr %functions, i64 %n) {
entry:
  PLACES
  %threads = load i64, ptr %at.count, align 8
  %other = icmp ne i64 %threads, %n
  br i1 %other, label %alone, label %publish
alone:
  %k = phi i64 [0, %entry], [%k1, %alone]
  %p = getelementptr ptr, ptr %functions, i64 %k
  %f = load ptr, ptr %p, align 8
  call void %f(ptr %table)
  %k1 = add i64 %k, 1
  %more = icmp ult i64 %k1, %n
  br i1 %more, label %alone, label %end
publish:
  store ptr %table, ptr %at.table, align 8
  store ptr %functions, ptr %at.functions, align 8
  %others = sub i64 %n, 1
  store atomic i64 %others, ptr %at.pending seq_cst, align 8
  atomicrmw add ptr %at.epoch, i64 1 seq_cst
  %asleep = load atomic i64, ptr %at.sleepers seq_cst, align 8
  %any = icmp ne i64 %asleep, 0
  br i1 %any, label %call, label %own
call:
  call i32 @pthread_mutex_lock(ptr %at.mutex)
  call i32 @pthread_cond_broadcast(ptr %at.condition)
  call i32 @pthread_mutex_unlock(ptr %at.mutex)
  br label %own
own:
  %f0 = load ptr, ptr %functions, align 8
  call void %f0(ptr %table)
  br label %join
join:
  %i = phi i64 [0, %own], [%next, %again], [%i, %yield]
  %left = load atomic i64, ptr %at.pending seq_cst, align 8
  %ready = icmp eq i64 %left, 0
  br i1 %ready, label %end, label %again
again:
  PAUSE
  %next = add i64 %i, 1
  %long = icmp ugt i64 %next, 20000
  br i1 %long, label %yield, label %join
yield:
  call i32 @sched_yield()
  br label %join
end:
  ret void
}
"""


def _text() -> str:
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64", "i686"):
        declaration, pause = "declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"
    elif machine in ("aarch64", "arm64"):
        declaration, pause = "declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"
    else:
        declaration, pause = "", ""
    return _TEXT.replace("  PLACES", _PLACES).replace("PAUSE_DECLARATION", declaration).replace("PAUSE", pause)


_libc = ctypes.CDLL(None) if os.name == "posix" else None


TURNS = 300_000
"""How often ``_wait`` looks before it gives up: turns at Python's lock, which a long step of another thread may hold,
so that the limit is one on threads that do not come, not on time that others take. They last 30 seconds or more."""


class Pool:
    """The threads beside the caller's. There is one pool, and its memory stays where it is."""

    def __init__(self) -> None:
        self.library = native.load(_text())
        self.fork = self.library.address("fork")
        self._work = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(self.library.address("work"))
        self._raw = np.zeros(96, np.int64)
        start = -self._raw.ctypes.data % 64 // 8
        self.words = self._raw[start : start + 80]
        self.address = self.words.ctypes.data
        self._ended = False
        self.clear()

    def clear(self) -> None:
        """Know of no threads: at the start, and in a child, where a thread that stayed behind may hold the lock."""
        assert _libc is not None
        self._lock = threading.Lock()
        self.workers: list[threading.Thread] = []
        self.words[:] = 0
        self.words[Word.COUNT] = 1
        _libc.pthread_mutex_init(self._place(Word.MUTEX), None)
        _libc.pthread_cond_init(self._place(Word.CONDITION), None)

    def _place(self, word: Word) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.address + 8 * word)

    def resize(self) -> None:
        """Have as many threads as ``set_num_threads`` said; where the system gives fewer, steps run alone.

        A step holds Python's lock from its first part to its last, so none runs while a word is written here. It may
        run wherever this waits, and would wait for ever for a thread that still needs Python's lock to begin or has
        been told to end. So a step may count on the others only once all of them are in native code, and no longer
        once they are to end.

        Raises RuntimeError where threads do not begin or end; steps then run alone.
        """
        with self._lock:
            count = 1 if self._ended else threads.get()  # read here: whoever comes last finds what was said last
            if count == int(self.words[Word.COUNT]) == len(self.workers) + 1:
                return
            self._stop()
            self.words[Word.EPOCH] = self.words[Word.BEGUN] = 0
            if self._start(count):
                self.words[Word.COUNT] = count
            else:
                self._stop()

    def _start(self, count: int) -> bool:
        """Start ``count - 1`` threads and wait until they are in native code. Whether the system gave all of them."""
        for n in range(1, count):
            worker = threading.Thread(target=self._work, args=(self.address, n), daemon=True, name=f"chainrule-{n}")
            try:
                worker.start()
            except RuntimeError:
                break
            self.workers.append(worker)
        _wait(lambda: int(self.words[Word.BEGUN]) == len(self.workers), "begin", self.workers)
        return len(self.workers) == count - 1

    def _stop(self) -> None:
        """End the threads, those that an interrupted change left behind too."""
        assert _libc is not None
        self.words[Word.COUNT] = 0
        self.words[Word.EPOCH] += 1
        _libc.pthread_mutex_lock(self._place(Word.MUTEX))
        _libc.pthread_cond_broadcast(self._place(Word.CONDITION))
        _libc.pthread_mutex_unlock(self._place(Word.MUTEX))
        _wait(lambda: not any(worker.is_alive() for worker in self.workers), "end", self.workers)
        self.workers = []
        self.words[Word.COUNT] = 1

    def end(self) -> None:
        """End the threads for good; steps go on with the caller's alone."""
        self._ended = True
        self.resize()


def _wait(done: Callable[[], bool], what: str, workers: list[threading.Thread]) -> None:
    """Wait until ``done()``, without Python's lock in between."""
    for _ in range(TURNS):
        if done():
            return
        time.sleep(0.0001)
    raise RuntimeError(message(
        f"set_num_threads: threads of compiled steps did not {what}", f"{len(workers)} threads, looked {TURNS} times",
        fix="Call set_num_threads(1) before the first compiled step, or see what keeps threads of this process from "
        "running.",
    ))  # fmt: skip


_pool: Pool | None = None


def available() -> bool:
    """Whether this system has what the pool is made of."""
    return _libc is not None and hasattr(_libc, "pthread_cond_wait")


def pool() -> Pool:
    """The pool, with as many threads as ``set_num_threads`` said."""
    global _pool
    if _pool is None:
        _pool = Pool()
        threads.changed.append(_resized)
        atexit.register(_pool.end)  # the threads run code that is freed at exit
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forked)
    _pool.resize()
    return _pool


def _resized(_: int) -> None:
    if _pool is not None:
        _pool.resize()


def _forked() -> None:
    if _pool is not None:
        _pool.clear()
