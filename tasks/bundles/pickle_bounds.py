"""What an untrusted pickle may cost, found by walking through its opcodes before any of them is executed.

A few hundred bytes can ask for room without end, or for work without end: memory for an object's number, tuples that
hold one another twice over at every level and whose hash or text takes 2ⁿ steps.
"""

from __future__ import annotations

import pickletools
from typing import Any, BinaryIO

from ddfa_batch.schemas.errors import BundleError, UnsafeFileError

#: Opcodes of one pickle; a large torch checkpoint has some 20,000, and 200,000 are walked in a second.
_MAX_OPCODES = 200_000
#: Objects a pickle may number; a checkpoint has some thousands.
_MAX_OBJECTS = 1_000_000
#: Members of a tuple with all that its members hold, each counted as often as it is met; a tensor's have about ten.
_MAX_TUPLE = 10_000

_TUPLES = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
#: On the stack of sizes: where a slice begins.
_MARK = -1


def refuse_excess(file: BinaryIO) -> None:
    """Walk through the pickle that begins here without executing it, and come back to its beginning.

    Raises `UnsafeFileError` for one that would cost too much, `BundleError` for one that takes from an empty stack;
    pickletools raises ValueError for lengths beyond the end of the file, before anything is allocated for them.
    """
    start = file.tell()
    walk = _Walk()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > _MAX_OPCODES:
            raise UnsafeFileError(f"it has more than {_MAX_OPCODES:,} instructions, which no checkpoint needs")
        walk.step(opcode, argument)
    file.seek(start)


class _Walk:
    """The pickle machine with the sizes of tuples in place of objects; whatever else there is counts as one."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._memo: dict[int, int] = {}

    def step(self, opcode: Any, argument: Any) -> None:
        """Do what the opcode does to the stack."""
        name = opcode.name
        if name in _PUTS or name == "MEMOIZE":
            self._remember(len(self._memo) if name == "MEMOIZE" else int(argument))
        elif name in _GETS:
            self._stack.append(self._memo.get(int(argument), 1))
        elif name == "MARK":
            self._stack.append(_MARK)
        elif name == "DUP":
            self._stack.append(self._taken(1)[0])
            self._stack.append(self._stack[-1])
        else:
            members = self._popped(opcode.stack_before)
            size = 1 + sum(members) if name in _TUPLES else 1
            if size > _MAX_TUPLE:
                raise UnsafeFileError("its tuples hold one another, which would take time without end")
            self._stack += [size] * len(opcode.stack_after)

    def _remember(self, number: int) -> None:
        if number > _MAX_OBJECTS:
            raise UnsafeFileError(f"it numbers an object {number}, which would take memory without end")
        self._memo[number] = self._stack[-1] if self._stack else 1

    def _popped(self, before: list[Any]) -> list[int]:
        """The sizes an opcode takes from the stack: a slice down to the mark, and what it wants below that."""
        if pickletools.markobject not in before:
            return self._taken(len(before))
        members: list[int] = []
        while (size := self._taken(1)[0]) != _MARK:
            members.append(size)
        return members + self._taken(before.index(pickletools.markobject))

    def _taken(self, n: int) -> list[int]:
        if n > len(self._stack):
            raise BundleError("its instructions take what is not there")
        return [self._stack.pop() for _ in range(n)]
