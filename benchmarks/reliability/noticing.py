"""Plugin of pytest that tells which faults of functions are noticed by tests.

Given ``--faults=FILE``, with the faulty texts of the file of each function, the tests are
collected once and run once, to see which of them reach which function. Then each fault gets a
forked process of its own, where the code of its function is replaced and the tests that reach
it run, the quickest first, until one fails. So nothing is imported, collected or compiled more
than once. Files stay as they are.
"""

import ast
import builtins
import gc
import importlib
import json
import os
import resource
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest

#: Built-in name of the set of functions that were called.
_REACHED = "_structmat_functions_reached"
#: Seconds beside ten times the usual ones, after which a process counts as one that never ends.
_LIMIT = 30
#: Bytes that a process may take: a wrong size must not fill the machine.
_MEMORY = 2**33


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the file with a job, which becomes the file with its results."""
    parser.addoption("--faults", type=Path, required=True, metavar="FILE")


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Run the tests on the code as it is, and those that reach a function on its faults."""
    place = session.config.getoption("faults")
    job = json.loads(place.read_text(encoding="utf-8"))
    functions = {name: _Function(*name.split(": ")) for name in job}
    for name, function in functions.items():
        function.take(function.probe(name))
    seconds = _run(session)
    for function in functions.values():
        function.take(function.text)
    results = {}
    gc.freeze()  # a child that collects would copy all of its parent's memory
    for name, function in functions.items():
        items = sorted(seconds[name], key=lambda item: seconds[name][item])
        limit = _LIMIT + 10 * int(sum(seconds[name].values()))
        noticed = [_notices(session, items, function, text, limit) for text in job[name]]
        results[name] = {"tests": len(items), "noticed": noticed}
    place.write_text(json.dumps(results), encoding="utf-8")
    return True


class _Function:
    """A function of a loaded module, whose code can be replaced wherever it is held."""

    def __init__(self, module: str, name: str) -> None:
        path = importlib.import_module(module).__file__
        assert path is not None
        self._path, self._name = path, name
        self.text = Path(path).read_text(encoding="utf-8")
        self._held = [f for f in gc.get_objects() if type(f) is FunctionType]
        self._held = [f for f in self._held if self._is_own(f.__code__)]

    def _is_own(self, code: CodeType) -> bool:
        return code.co_filename == self._path and code.co_qualname == self._name

    def take(self, text: str) -> None:
        """Replace the code by that of another text of the file."""
        code = next(filter(self._is_own, _codes(compile(text, self._path, "exec"))))
        for function in self._held:
            function.__code__ = code

    def probe(self, mark: str) -> str:
        """Text of the file in which the function leaves a mark when it is called."""
        node = tree = ast.parse(self.text)
        for name in self._name.split("."):
            node = next(child for child in node.body if getattr(child, "name", "") == name)
        node.body[:0] = ast.parse(f"import builtins\nbuiltins.{_REACHED}.add({mark!r})").body
        return ast.unparse(tree)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _run(session: pytest.Session) -> dict[str, dict[pytest.Item, float]]:
    """Run all tests; return the seconds of those that pass and reach a function, by function."""
    seconds: dict[str, dict[pytest.Item, float]] = defaultdict(dict)
    reached: set[str] = set()
    setattr(builtins, _REACHED, reached)
    for item, after in zip(session.items, [*session.items[1:], None], strict=True):
        reached.clear()
        failed = session.testsfailed
        begin = time.perf_counter()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        for name in reached if session.testsfailed == failed else ():
            seconds[name][item] = time.perf_counter() - begin
    return seconds


def _notices(
    session: pytest.Session, items: list[pytest.Item], function: _Function, text: str, limit: int
) -> bool:
    """Tell whether a test fails or never ends on a faulty text."""
    failed = session.testsfailed
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        gc.disable()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(limit)
        function.take(text)
        for item, after in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if session.testsfailed > failed:
                break
    finally:  # nothing of the parent's end may run in the child
        os._exit(1 if session.testsfailed > failed else 0)
