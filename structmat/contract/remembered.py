"""Results that a matrix computes once: from its contents, or from its structure alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from structmat import _array
from structmat._array import DType
from structmat._backends import Backend
from structmat.contract.parts import Parts


class Remembered(Parts):
    """Abstract operator that keeps what it computed, as long as its contents stay the same."""

    _backend: Backend
    _memory: dict[str, Any] | None
    _structure: dict[Any, Any]

    def _wider(self, dtype: DType) -> Any:
        # A solver in double precision asks for the wider matrix at every step.
        return self._kept(f"as {dtype}", lambda: self.astype(dtype))

    #: Whether products go by the structure, since a layer has weighed it against the dense weight.
    _weighed_by_layer = False

    def _kept(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the result of `make`, remembered unless gradients flow through contents."""
        if self._memory is None:
            return make()
        records, version = self._backend.records_gradients, self._backend.version
        if records is not None or version is not None:
            leaves = self._leaves()
            if records is not None and any(map(records, leaves)):
                return make()
            versions = None if version is None else list(map(version, leaves))
            if versions is not None and self._memory.get("versions") != versions:
                self._memory = {"versions": versions}  # contents changed in place
        if name not in self._memory:
            with self._making():
                made = make()
            if self._backend.capturing():
                return made
            self._memory[name] = made
        return self._memory[name]

    def _structural(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the result of `make`, which depends on structure alone: always remembered.

        Matrices that `binding.bind` makes around other contents share it.
        """
        key = name, _array.device_key(self.device)
        if key not in self._structure:
            with self._making():
                self._structure[key] = make()
        return self._structure[key]

    def _forget(self, name: str) -> None:
        """Drop a result of `_structural`."""
        self._structure.pop((name, _array.device_key(self.device)), None)

    @contextmanager
    def _making(self) -> Iterator[None]:
        """The context in which results are made that later products read."""
        with _array.computing_on(self.xp, self.device), self._backend.caching(self.xp):
            yield
