"""Conditions on the rows of a table in words, `yaw > 40 and score > 0.9`, to Arrow expressions; nothing is executed.

The words are SQL's, as DuckDB takes them: `and or not`, `= == != <> < <= > >=`, `in (…)`, `between … and …`, `like`,
`is [not] null`, `+ - * /`, `abs()`, numbers, 'text', true and false.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ddfa_batch.schemas.errors import OptionError

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<text>'(?:[^']|'')*')|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<name>\"[^\"]+\")|(?P<sign><=|>=|<>|!=|==|[=<>()+\-*/,]))"
)
#: Words that are no columns.
_WORDS = frozenset(["and", "or", "not", "in", "is", "null", "between", "like", "true", "false"])
#: Most characters of a condition, and how deep its brackets may nest.
_LONGEST, _DEEPEST = 2000, 50
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def row_filter(condition: str, schema: pa.Schema) -> ds.Expression:
    """The expression that a condition on the columns of `schema` means.

    Raises `OptionError` that says where the condition goes wrong, and for an unknown column which there are.
    """
    return _Parser(condition, schema).parsed()


def columns_of(condition: str) -> set[str]:
    """The columns that a condition names, whether there are such or not."""
    found = set()
    tokens = _tokens(condition)
    for (kind, text), (_, following) in pairwise([*tokens, ("end", "")]):
        if kind == "name":
            found.add(text[1:-1])
        elif kind == "word" and text.lower() not in _WORDS and following != "(":
            found.add(text)
    return found


def _tokens(condition: str) -> list[tuple[str, str]]:
    if len(condition) > _LONGEST:
        raise OptionError(f"The condition has {len(condition):,} characters; at most {_LONGEST:,} are read.")
    tokens, at = [], 0
    while condition[at:].strip():
        match = _TOKEN.match(condition, at)
        if match is None:
            rest = condition[at:].strip()
            raise OptionError(f"'{condition}' is no condition: {rest[:20]!r} is not understood.")
        tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
        at = match.end()
    return tokens


class _Parser:
    """Reads a condition from left to right, one method for each level of binding."""

    def __init__(self, condition: str, schema: pa.Schema) -> None:
        self._condition, self._schema = condition, schema
        self._tokens = [*_tokens(condition), ("end", "")]
        self._at = self._depth = 0
        self._single: list[ds.Expression] = []

    def parsed(self) -> ds.Expression:
        if len(self._tokens) == 1:
            raise OptionError("The condition is empty; write one such as yaw > 40 and score > 0.9.")
        found = self._either()
        if self._tokens[self._at][0] != "end":
            raise self._fault()
        if not isinstance(found, ds.Expression):
            raise OptionError(f"'{self._condition}' names no column; write one such as yaw > 40.")
        try:  # types that do not compare are told before any work begins
            ds.dataset(self._schema.empty_table()).to_table(filter=found)
        except (pa.ArrowException, TypeError) as fault:
            raise OptionError(f"'{self._condition}' is no condition: {_first_line(fault)}.") from None
        return found

    def _fault(self) -> OptionError:
        text = self._tokens[self._at][1]
        wrong = f"'{text}' is not expected there" if text else "it ends early"
        return OptionError(f"'{self._condition}' is no condition: {wrong}.")

    def _take(self, *words: str) -> str | None:
        """Go past the next word or sign if it is one of these; give which."""
        kind, text = self._tokens[self._at]
        if kind in ("word", "sign") and text.lower() in words:
            self._at += 1
            return text.lower()
        return None

    def _expect(self, word: str) -> None:
        if self._take(word) is None:
            raise self._fault()

    def _either(self) -> Any:
        found = self._both()
        while self._take("or"):
            found = self._truth(found) | self._truth(self._both())
        return found

    def _both(self) -> Any:
        found = self._negated()
        while self._take("and"):
            found = self._truth(found) & self._truth(self._negated())
        return found

    def _negated(self) -> Any:
        if self._take("not"):
            self._deeper()
            found = ~self._truth(self._negated())
            self._depth -= 1
            return found
        return self._compared()

    @staticmethod
    def _truth(value: Any) -> ds.Expression:
        return value if isinstance(value, ds.Expression) else pc.scalar(value)

    def _compared(self) -> Any:
        left = self._sum()
        if sign := self._take(*_COMPARISONS):
            return _COMPARISONS[sign](self._truth(left), self._alike(left, self._sum()))
        if self._take("is"):
            there = self._take("not")
            self._expect("null")
            return self._truth(left).is_valid() if there else self._truth(left).is_null()
        turned = self._take("not")
        found = self._ranged(self._truth(left))
        if found is None:
            if turned:
                raise self._fault()
            return left
        return ~found if turned else found

    def _ranged(self, left: ds.Expression) -> ds.Expression | None:
        if self._take("between"):
            low = self._alike(left, self._sum())
            self._expect("and")
            return (left >= low) & (left <= self._alike(left, self._sum()))
        if self._take("in"):
            self._expect("(")
            values = [self._constant()]
            while self._take(","):
                values.append(self._constant())
            self._expect(")")
            return left.isin(values)
        if self._take("like"):
            pattern = self._constant()
            return pc.match_like(left, str(pattern))
        return None

    def _sum(self) -> Any:
        found = self._product()
        while sign := self._take("+", "-"):
            other = self._product()
            found = found + other if sign == "+" else found - other
        return found

    def _product(self) -> Any:
        found = self._factor()
        while sign := self._take("*", "/"):
            other = self._factor()
            if sign == "/" and not isinstance(other, ds.Expression) and not other:
                raise OptionError(f"'{self._condition}' divides by zero.")
            found = found * other if sign == "*" else _ratio(found, other)
        return found

    def _factor(self) -> Any:
        self._deeper()
        try:
            if self._take("-"):
                value = self._factor()
                return pc.negate(value) if isinstance(value, ds.Expression) else -value
            if self._take("("):
                found = self._either()
                self._expect(")")
                return found
            kind, text = self._tokens[self._at]
            if kind in ("word", "name") and text.lower() not in _WORDS:
                return self._named(text)
            return self._constant()
        finally:
            self._depth -= 1

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise OptionError(f"The condition nests deeper than {_DEEPEST} brackets.")

    def _constant(self) -> Any:
        kind, text = self._tokens[self._at]
        sign = -1 if self._take("-") else 1
        if sign < 0:
            kind, text = self._tokens[self._at]
        if kind == "number":
            self._at += 1
            return sign * (float(text) if re.search(r"[.eE]", text) else int(text))
        if kind == "text" and sign > 0:
            self._at += 1
            return text[1:-1].replace("''", "'")
        if kind == "word" and text.lower() in ("true", "false") and sign > 0:
            self._at += 1
            return text.lower() == "true"
        raise self._fault()

    def _named(self, text: str) -> ds.Expression:
        """A column, or the absolute value of something."""
        self._at += 1
        if self._tokens[self._at] == ("sign", "("):
            if text.lower() != "abs":
                raise OptionError(f"'{self._condition}' calls {text}(); the only function is abs().")
            self._expect("(")
            found = self._either()
            self._expect(")")
            return pc.abs(self._truth(found))
        name = self._column(text.strip('"'))
        column = ds.field(name)
        if self._schema.field(name).type == pa.float32():
            self._single.append(column)
        return column

    def _alike(self, left: Any, value: Any) -> Any:
        """A number as a column of single precision holds it, where it is compared with one: 0.9 equals 0.9."""
        single = isinstance(value, float) and any(left is column for column in self._single)
        return float(np.float32(value)) if single else value

    def _column(self, name: str) -> str:
        single = [field.name for field in self._schema if not pa.types.is_nested(field.type)]
        if name in single:
            return name
        if name in self._schema.names:
            raise OptionError(f"Column '{name}' holds a list in each row; compare one of {', '.join(single)}.")
        near = difflib.get_close_matches(name, single, n=1)
        meant = f" Did you mean '{near[0]}'?" if near else ""
        raise OptionError(f"There is no column '{name}'; there are {', '.join(single)}.{meant}")


def _ratio(a: Any, b: Any) -> Any:
    """a / b, which of whole numbers is no whole number."""
    return (a.cast(pa.float64()) if isinstance(a, ds.Expression) else float(a)) / b


def _first_line(fault: BaseException) -> str:
    return str(fault).splitlines()[0].rstrip(".")
