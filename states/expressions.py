"""What may still follow?  Regular expressions over words: read from a text, and taken apart by derivatives.

The derivative of an expression by a word is what may follow once that word was heard (Brzozowski, "Derivatives of
regular expressions", J. ACM 11, 1964).  It is an expression again, and there are finitely many of them: they are the
places of an automaton.
"""

import re
from collections.abc import Iterable, Mapping

from attrs import define, evolve, field, frozen

from states.errors import StateloopError, nearest


class GrammarRefused(StateloopError):
    """The text of a grammar cannot be read."""


@frozen(cache_hash=True)
class Word:
    """This word, once."""

    name: str


@frozen(cache_hash=True)
class Then:
    """One part after the other."""

    parts: "tuple[Expression, ...]"


@frozen(cache_hash=True)
class Either:
    """One of the choices."""

    choices: "frozenset[Expression]"


@frozen(cache_hash=True)
class Many:
    """The part any number of times, not at all included."""

    part: "Expression"


Expression = Word | Then | Either | Many
EMPTY = Then(())  # a sequence of nothing: the empty trace
NEVER = Either(frozenset())  # a choice of nothing: no trace at all


def then(parts: Iterable[Expression]) -> Expression:
    """One after the other; nested sequences are laid flat, so that there are finitely many derivatives."""
    flat = tuple(p for part in parts for p in (part.parts if isinstance(part, Then) else (part,)))
    if NEVER in flat:
        return NEVER
    return flat[0] if len(flat) == 1 else Then(flat)


def either(choices: Iterable[Expression]) -> Expression:
    """One of these; nested choices are laid flat, and what stands twice counts once."""
    flat = frozenset(p for part in choices for p in (part.choices if isinstance(part, Either) else (part,)))
    return next(iter(flat)) if len(flat) == 1 else Either(flat)


def may_end(this: Expression) -> bool:
    """Whether nothing more need follow."""
    match this:
        case Word():
            return False
        case Then(parts):
            return all(map(may_end, parts))
        case Either(choices):
            return any(map(may_end, choices))
        case Many():
            return True


def firsts(this: Expression) -> frozenset[str]:
    """The words that may come next.

    Example:
        >>> sorted(firsts(read("run = a? b | c", {"a", "b", "c"})))
        ['a', 'b', 'c']
    """
    match this:
        case Word(name):
            return frozenset({name})
        case Many(part):
            return firsts(part)
        case Either(choices):
            return frozenset().union(*map(firsts, choices))
        case Then(parts):
            needed = next((n for n, part in enumerate(parts, 1) if not may_end(part)), len(parts))
            return frozenset().union(*map(firsts, parts[:needed]))


def after(this: Expression, word: str) -> Expression:
    """The derivative: what may follow once `word` was heard.

    Example:
        >>> after(read("run = a b", {"a", "b"}), "a")
        Word(name='b')
    """
    match this:
        case Word(name):
            return EMPTY if name == word else NEVER
        case Many(part):
            return then((after(part, word), this))
        case Either(choices):
            return either(after(part, word) for part in choices)
        case Then(parts):
            # Each part may be the one that hears the word, as long as all before it may end.
            needed = next((n for n, part in enumerate(parts, 1) if not may_end(part)), len(parts))
            return either(then((after(parts[n], word), *parts[n + 1 :])) for n in range(needed))


def read(text: str, words: Iterable[str]) -> Expression:
    """The expression of the first rule of a text, the names of other rules replaced by what they stand for.

    Raises:
        GrammarRefused: with the line that cannot be read, and why.
    """
    known = frozenset(words)
    rules = _rules(text, known)
    if not rules:
        raise GrammarRefused(f"the grammar has no rule; {_SHAPE}")
    reader = _Reader(rules, known)
    found = reader.rule(next(iter(rules)))
    if unused := [name for name in rules if name not in reader.used]:
        raise rules[unused[0]][0].refuse(f"the first rule leads nowhere to {', '.join(map(repr, unused))}")
    return found


_SHAPE = "a rule reads: name = event (rule | event)* event?"


@frozen
class _Token:
    text: str
    line: int

    def refuse(self, why: str) -> GrammarRefused:
        return GrammarRefused(f"line {self.line} of the grammar: {why}")


def _rules(text: str, words: frozenset[str]) -> dict[str, list[_Token]]:
    """The tokens of each rule, its name first; a line without `=` goes on with the rule above."""
    rules: dict[str, list[_Token]] = {}
    body: list[_Token] = []
    for number, line in enumerate(text.splitlines(), 1):
        tokens = [_Token(found, number) for found in re.findall(r"[^\W\d]\w*|\S", line.partition("#")[0])]
        if [token.text for token in tokens[1:2]] == ["="] and tokens[0].text.isidentifier():
            name = tokens[0]
            if name.text in rules or name.text in words:
                raise name.refuse(f"{name.text!r} is {'a rule already' if name.text in rules else 'an event'}")
            body = rules[name.text] = []
            body.append(name)
            tokens = tokens[2:]
        for token in tokens:
            if not body or not re.fullmatch(r"[^\W\d]\w*|[()|*+?]", token.text):
                raise token.refuse(f"{token.text!r} is not understood; {_SHAPE}")
        body.extend(tokens)
    return rules


@define(eq=False)
class _Reader:
    """Recursive descent over the tokens of one rule; the rules that it names are read where they are named."""

    rules: Mapping[str, list[_Token]]
    words: frozenset[str]
    ring: tuple[str, ...] = ()
    tokens: list[_Token] = field(factory=list)
    used: set[str] = field(factory=set)

    def rule(self, name: str) -> Expression:
        head, *body = self.rules[name]
        if name in self.ring:
            raise head.refuse(f"rules go in a ring: {' -> '.join((*self.ring, name))}")
        self.used.add(name)
        end = _Token("", (body or [head])[-1].line)
        inner = evolve(self, ring=(*self.ring, name), tokens=[*body, end])
        found = inner.choices()
        if left := inner.tokens[0].text:
            raise inner.tokens[0].refuse(f"{left!r} closes nothing")
        return found

    def choices(self) -> Expression:
        found = [self.parts()]
        while self.tokens[0].text == "|":
            self.tokens.pop(0)
            found.append(self.parts())
        return either(found)

    def parts(self) -> Expression:
        found: list[Expression] = []
        while self.tokens[0].text not in ("", "|", ")"):
            found.append(self.repeated())
        if not found:
            where = f"before {self.tokens[0].text!r}" if self.tokens[0].text else "at the end"
            raise self.tokens[0].refuse(f"a name or a bracket is missing {where} of {self.ring[-1]!r}")
        return then(found)

    def repeated(self) -> Expression:
        part = self.part()
        while (sign := self.tokens[0].text) in ("*", "+", "?"):
            self.tokens.pop(0)
            part = {"*": Many(part), "+": then((part, Many(part))), "?": either((part, EMPTY))}[sign]
        return part

    def part(self) -> Expression:
        token = self.tokens.pop(0)
        if token.text == "(":
            found = self.choices()
            if self.tokens.pop(0).text != ")":
                raise token.refuse("'(' is never closed")
            return found
        if token.text in ("*", "+", "?"):
            raise token.refuse(f"{token.text!r} follows nothing that it could repeat")
        if token.text in self.rules:
            return self.rule(token.text)
        if token.text not in self.words:
            hint = nearest(token.text, {*self.words, *self.rules})
            raise token.refuse(f"{token.text!r} is neither an event nor a rule ({hint})")
        return Word(token.text)
