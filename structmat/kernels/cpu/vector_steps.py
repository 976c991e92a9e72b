"""Compiled products by one or two factors with one vector, shared out among threads.

Collecting comes first, then spreading, and each is cut into pieces of about one cost. Every
thread takes the pieces of its own part one by one, then those that others have left: none
waits for a thread that the system has not started yet, and a piece is the same whichever
thread takes it.

The thread that calls posts its task on a board, an array of words in lines of `LINE`. Helpers
watch the board for a while, then sleep until a byte comes through their pipe.
"""

import numpy as np

from structmat.kernels.cpu.llvm import VECTOR_BYTES, address_of, compiled
from structmat.kernels.cpu.vector_loops import (
    PADDED,
    PIECES,
    PLACES,
    ROWS,
    SCRATCH_BYTES,
    collect_piece,
    spread_piece,
)
from structmat.kernels.cpu.words import (
    add_to_word,
    hold,
    let_others,
    pause,
    read_bytes,
    set_word,
    shared_word,
    swap_word,
    word,
    write_bytes,
)

#: Words of a line of memory: threads that change words of one line slow each other.
LINE = 8
#: Words of the board, each in a line of its own: number of the task times `_TASK`, odd while it
#: is open, plus the number of helpers at work; whether somebody posts; the task's address, with
#: its number of threads and the wish that helpers end. Then a line for each helper: whether it
#: sleeps, and the descriptors that wake it and that it reads.
_STATE, _BUSY, _POST, _HELPERS = 0, LINE, 2 * LINE, 3 * LINE
_TASK = 1 << 16
#: Words of a task: bytes of a number; addresses of both steps, 0 for none, of the operand, of
#: what is collected and of what is spread; number of threads; then, in lines of their own, the
#: finished pieces of both steps, and the next piece of every thread, step after step.
_ITEM, _COLLECT, _SPREAD, _SOURCE, _MIDDLE, _TARGET, _THREADS = range(7)
_DONE, _NEXT = LINE, 3 * LINE
#: Times that a waiting thread looks before it lets others run.
_LOOKS = 4000


def board_words(helpers: int) -> int:
    """Words of a board for a number of helpers."""
    return _HELPERS + LINE * helpers


@compiled
def set_helper(board, helper, wakes, reads):
    """Note the descriptors of a helper, counted from 0."""
    place = _HELPERS + LINE * helper
    set_word(board, place + 1, wakes)
    set_word(board, place + 2, reads)


@compiled
def _take_pieces(kind, task, which, me, scratch):
    """Take pieces of a step, the collecting one or the spreading one, until none is left."""
    step = word(task, _COLLECT + which)
    source, target = word(task, _SOURCE + which), word(task, _MIDDLE + which)
    threads, pieces, done = word(task, _THREADS), word(step, PIECES), 0
    for turn in range(threads):
        part = (me + turn) % threads
        end = pieces * (part + 1) // threads
        place = _NEXT + LINE * (which * threads + part)
        while shared_word(task, place) < end:
            piece = add_to_word(task, place, 1)
            if piece >= end:
                break
            if which:
                spread_piece(kind, step, piece, source, target)
            else:
                collect_piece(kind, step, piece, source, target, scratch)
            done += 1
    if done:
        add_to_word(task, _DONE + LINE * which, done)


@compiled
def _wait_for_pieces(task, which):
    """Wait until the last piece of a step is finished."""
    pieces, looks = word(word(task, _COLLECT + which), PIECES), 0
    while shared_word(task, _DONE + LINE * which) < pieces:
        pause()
        looks += 1
        if looks > _LOOKS:
            let_others()


@compiled
def _take_part(kind, task, me):
    memory = np.empty(SCRATCH_BYTES + VECTOR_BYTES, np.uint8)
    scratch = address_of(memory)
    scratch += -scratch % VECTOR_BYTES
    if word(task, _COLLECT):
        _take_pieces(kind, task, 0, me, scratch)
        _wait_for_pieces(task, 0)
    if word(task, _SPREAD):
        _take_pieces(kind, task, 1, me, scratch)
    hold(memory)


@compiled
def serve(board, helper, patience):
    """Take part in tasks on a board until helpers are to end.

    The helper looks `patience` times for a new task before it sleeps.
    """
    me, place, last, looks = helper + 1, _HELPERS + LINE * helper, 0, 0
    memory = np.empty(1, np.uint8)
    buffer = address_of(memory)
    while not shared_word(board, _POST + 2):
        number = shared_word(board, _STATE) // _TASK
        if number % 2 and number != last and me < shared_word(board, _POST + 1):
            number = add_to_word(board, _STATE, 1) // _TASK
            if number % 2:
                last = number
                task = shared_word(board, _POST)
                if word(task, _ITEM) == 4:
                    _take_part(np.float32(0), task, me)
                else:
                    _take_part(np.float64(0), task, me)
            add_to_word(board, _STATE, -1)
            looks = 0
        elif looks < patience:
            pause()
            looks += 1
        elif looks == patience:
            swap_word(board, place, 1)
            looks += 1  # one more look, now that others know
        else:
            read_bytes(shared_word(board, place + 2), buffer, 1)
            looks = 0
    hold(memory)


@compiled
def _open_task(board, task, threads):
    """Post a task and wake those who sleep."""
    memory = np.ones(1, np.uint8)
    set_word(board, _POST, task)
    set_word(board, _POST + 1, threads)
    add_to_word(board, _STATE, _TASK)
    for helper in range(threads - 1):
        place = _HELPERS + LINE * helper
        if shared_word(board, place) and swap_word(board, place, 0):
            write_bytes(shared_word(board, place + 1), address_of(memory), 1)
    hold(memory)


@compiled
def _close_task(board):
    """Take the task from the board, and wait until every helper has left it."""
    add_to_word(board, _STATE, _TASK)
    looks = 0
    while shared_word(board, _STATE) % _TASK:
        pause()
        looks += 1
        if looks > _LOOKS:
            let_others()


@compiled
def end_helpers(board):
    """Let all helpers end, once no task is posted, and none be posted again."""
    while swap_word(board, _BUSY, 1):
        let_others()
    set_word(board, _POST + 2, 1)


@compiled
def _run(kind, task, board, threads):
    """Do a task, with helpers if there are any to be had."""
    spread, shared = word(task, _SPREAD), threads > 1
    if shared and swap_word(board, _BUSY, 1):
        shared = False  # another thread has them
    if shared:
        _open_task(board, task, threads)
    _take_part(kind, task, 0)
    if spread:
        _wait_for_pieces(task, 1)
    if shared:
        _close_task(board)
        set_word(board, _BUSY, 0)


@compiled
def _padded(x, step, operand):
    """Write a vector with all row groups of one height; the rest of `operand` is zero."""
    rows, places = word(step, ROWS), word(step, PLACES)
    if places:
        operand[: word(step, PADDED)] = 0
        for i in range(rows):
            operand[word(places, i)] = x[i]
    else:
        operand[:rows] = x[:rows]
        operand[rows:] = 0


@compiled
def _unpadded(y, step, out):
    """Write a vector without the padding of row groups."""
    rows, places = word(step, ROWS), word(step, PLACES)
    if places:
        for i in range(rows):
            out[i] = y[word(places, i)]
    else:
        out[:rows] = y[:rows]


@compiled
def multiply_vectors(board, threads, collect, spread, count, through, x, out):
    """Write products of vectors, the rows of `x`, to the rows of `out`.

    Parameters
    ----------
    board : int
        Address of the board of the helpers.
    threads : int
        Number of threads at most, the present one included.
    collect, spread : int
        Addresses of the steps; 0 for none.
    count : int
        Numbers that are collected.
    through : int
        1 where the operand follows on what is collected, -1 where the last of what is
        collected is added to the result, else 0.
    x, out : array
        Vectors and results, both in rows of contiguous memory.
    """
    item, line = x.itemsize, VECTOR_BYTES // x.itemsize
    memory = np.zeros(_NEXT + LINE * (2 * threads + 1), np.int64)
    task = address_of(memory)
    task += -task % 64
    rows = word(collect, PADDED) if collect else 0
    height = word(spread, PADDED) if spread else 0
    length = count + (x.shape[1] if through == 1 else 0)
    sizes = rows + length + height + 4 * line
    scratch = np.empty(sizes, x.dtype)
    begin = -address_of(scratch) % VECTOR_BYTES // item
    operand = scratch[begin : begin + rows]
    begin += rows
    target = scratch[begin : begin + height]
    begin += height
    middle = scratch[begin : begin + length]
    kind = x.dtype.type(0)
    set_word(task, _ITEM, item)
    set_word(task, _COLLECT, collect)
    set_word(task, _SPREAD, spread)
    set_word(task, _THREADS, threads)
    for c in range(len(x)):
        for which in range(2):
            step = collect if which == 0 else spread
            pieces = word(step, PIECES) if step else 0
            set_word(task, _DONE + LINE * which, 0)
            for part in range(threads):
                place = _NEXT + LINE * (which * threads + part)
                set_word(task, place, pieces * part // threads)
        if collect:
            _padded(x[c], collect, operand)
            set_word(task, _SOURCE, address_of(operand))
            if spread:
                middle[count:] = x[c][: length - count]
                set_word(task, _MIDDLE, address_of(middle))
            else:
                set_word(task, _MIDDLE, address_of(out) + c * out.strides[0])
        else:
            set_word(task, _MIDDLE, address_of(x) + c * x.strides[0])
        set_word(task, _TARGET, address_of(target))
        _run(kind, task, board, threads)
        if spread:
            _unpadded(target, spread, out[c])
        if through == -1:
            out[c] += middle[count - out.shape[1] :]
    hold(memory)
    hold(scratch)


@compiled
def looks_for(times):
    """Look for work that never comes, a number of times."""
    memory = np.zeros(1, np.int64)
    found = 0
    for _ in range(times):
        found += shared_word(address_of(memory), 0)
        pause()
    hold(memory)
    return found
