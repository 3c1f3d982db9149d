"""The threads that compiled steps share: they wait in native code, without Python's lock, for a part of a kernel.

A step publishes functions, runs the first itself and waits for the others. Waiting threads spin for some microseconds,
since the next kernel usually follows at once, and then sleep. After ``fork`` a child has no such threads: it runs all
parts itself.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import threading
import time

import numpy as np

from ..core import threads
from . import native

__all__ = ["Pool", "available", "pool"]

# The pool's memory, in words, what is written by different threads on lines of its own: 0 the epoch, 8 how many sleep,
# 16 how many parts are under way, 24 how many threads there are (0: they shall end), 25 the table that the functions
# get, 26 the functions, 32 a mutex, 48 a condition, 64 how many threads have begun to wait.
EPOCH, SLEEPERS, PENDING, COUNT, TABLE, FUNCTIONS, MUTEX, CONDITION, BEGUN = 0, 8, 16, 24, 25, 26, 32, 48, 64
_PLACES = f"""
  %sleepers = getelementptr i64, ptr %pool, i64 {SLEEPERS}
  %pending = getelementptr i64, ptr %pool, i64 {PENDING}
  %count = getelementptr i64, ptr %pool, i64 {COUNT}
  %table.place = getelementptr i64, ptr %pool, i64 {TABLE}
  %functions.place = getelementptr i64, ptr %pool, i64 {FUNCTIONS}
  %mutex = getelementptr i64, ptr %pool, i64 {MUTEX}
  %condition = getelementptr i64, ptr %pool, i64 {CONDITION}
  %begun = getelementptr i64, ptr %pool, i64 {BEGUN}"""
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
  atomicrmw add ptr %begun, i64 1 seq_cst
  br label %wait
wait:
  %seen = phi i64 [0, %entry], [%epoch, %task]
  br label %spin
spin:
  %i = phi i64 [0, %wait], [%next, %again]
  %epoch1 = load atomic i64, ptr %pool seq_cst, align 8
  %new = icmp ne i64 %epoch1, %seen
  br i1 %new, label %go, label %again
again:
  PAUSE
  %next = add i64 %i, 1
  %tired = icmp ugt i64 %next, 3000
  br i1 %tired, label %sleep, label %spin
sleep:
  call i32 @pthread_mutex_lock(ptr %mutex)
  atomicrmw add ptr %sleepers, i64 1 seq_cst
  br label %look
look:
  %epoch2 = load atomic i64, ptr %pool seq_cst, align 8
  %come = icmp ne i64 %epoch2, %seen
  br i1 %come, label %wake, label %rest
rest:
  call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %look
wake:
  atomicrmw sub ptr %sleepers, i64 1 seq_cst
  call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %go
go:
  %epoch = load atomic i64, ptr %pool seq_cst, align 8
  %alive = load i64, ptr %count, align 8
  %stop = icmp eq i64 %alive, 0
  br i1 %stop, label %end, label %task
task:
  %functions = load ptr, ptr %functions.place, align 8
  %place = getelementptr ptr, ptr %functions, i64 %number
  %function = load ptr, ptr %place, align 8
  %table = load ptr, ptr %table.place, align 8
  call void %function(ptr %table)
  atomicrmw sub ptr %pending, i64 1 seq_cst
  br label %wait
end:
  atomicrmw sub ptr %pending, i64 1 seq_cst
  ret void
}

define void @fork(ptr %pool, ptr %table, ptr %functions, i64 %n) {
entry:
  PLACES
  %threads = load i64, ptr %count, align 8
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
  store ptr %table, ptr %table.place, align 8
  store ptr %functions, ptr %functions.place, align 8
  %others = sub i64 %n, 1
  store atomic i64 %others, ptr %pending seq_cst, align 8
  atomicrmw add ptr %pool, i64 1 seq_cst
  %asleep = load atomic i64, ptr %sleepers seq_cst, align 8
  %any = icmp ne i64 %asleep, 0
  br i1 %any, label %call, label %own
call:
  call i32 @pthread_mutex_lock(ptr %mutex)
  call i32 @pthread_cond_broadcast(ptr %condition)
  call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %own
own:
  %f0 = load ptr, ptr %functions, align 8
  call void %f0(ptr %table)
  br label %join
join:
  %i = phi i64 [0, %own], [%next, %again], [%i, %yield]
  %left = load atomic i64, ptr %pending seq_cst, align 8
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
        self.workers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self.words[:] = 0
        self.words[COUNT] = 1
        assert _libc is not None
        _libc.pthread_mutex_init(ctypes.c_void_p(self.address + 8 * MUTEX), None)
        _libc.pthread_cond_init(ctypes.c_void_p(self.address + 8 * CONDITION), None)
        self.workers = []

    def resize(self, count: int) -> None:
        """Have ``count`` threads, the caller's included; where the system gives no more, steps run alone.

        A step that has published its parts waits for the others without giving up Python's lock, so the threads count
        only once all of them are in native code, where they do not need it.
        """
        with self._lock:
            if count == int(self.words[COUNT]):
                return
            self._stop()
            self.words[COUNT] = 1
            self.words[EPOCH] = self.words[BEGUN] = 0
            try:
                for n in range(1, count):
                    worker = threading.Thread(
                        target=self._work, args=(self.address, n), daemon=True, name=f"chainrule-{n}"
                    )
                    worker.start()
                    self.workers.append(worker)
            except RuntimeError:
                count = 1
            while self.words[BEGUN] < len(self.workers):
                time.sleep(0.0001)
            if count == 1:
                self._stop()
            self.words[COUNT] = count

    def _stop(self) -> None:
        assert _libc is not None
        self.words[COUNT] = 0
        self.words[PENDING] = len(self.workers)
        self.words[EPOCH] += 1
        mutex, condition = ctypes.c_void_p(self.address + 8 * MUTEX), ctypes.c_void_p(self.address + 8 * CONDITION)
        _libc.pthread_mutex_lock(mutex)
        _libc.pthread_cond_broadcast(condition)
        _libc.pthread_mutex_unlock(mutex)
        for worker in self.workers:
            worker.join()
        self.workers = []

    def stop(self) -> None:
        """End the threads; steps go on with the caller's alone."""
        self.resize(1)


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
        atexit.register(_pool.stop)  # the threads run code that is freed at exit
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forked)
    _pool.resize(threads.get())
    return _pool


def _resized(count: int) -> None:
    if _pool is not None:
        _pool.resize(count)


def _forked() -> None:
    if _pool is not None:
        _pool._clear()
