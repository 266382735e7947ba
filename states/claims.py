"""What does a user hold to be true of an order?  Claims in plain words; each is an automaton that reads events.

A claim about runs that end in order asks nothing of one that dies: its `exception` settles what was still due.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping
from enum import Enum

from attrs import field, frozen

from states.errors import StateloopError, nearest
from states.names import Event, name_of
from states.order import Order


EXCEPTION = name_of(Event.EXCEPTION)
# What an event is between.
BOTH = 2


class ClaimRefused(StateloopError):
    """A claim names what nobody can hear, or could never be broken."""


@frozen
class At:
    """A place of a claim: where some events lead, and where all the others do; `None` is where the claim is broken."""

    otherwise: str | None
    moves: Mapping[str, str | None] = field(factory=dict, hash=False)


@frozen(repr=False)
class Claim:
    """Something that holds for every order of events that a user would accept.

    Attributes:
        code: As it is written in a test.
        sentence: The same in a sentence.
        words: The events that it names.
        places: Its automaton; the first place is where it starts.
        due: The places at which something is still to come: no run may end there.

    Example:
        >>> claim = before("step_end", "batch_end")
        >>> claim
        before('step_end', 'batch_end')
        >>> print(claim.sentence)
        each batch_end has a step_end before it, since the batch_end before
    """

    code: str
    sentence: str
    words: tuple[str, ...]
    places: Mapping[str, At] = field(hash=False)
    due: frozenset[str] = frozenset()

    def order(self, events: Iterable[Enum | str]) -> Order:
        """The claim as an order over these events.

        Raises:
            ClaimRefused: it names an event that is none of them.
        """
        names = list(dict.fromkeys(map(_name, events)))
        for word in self.words:
            if word not in names:
                raise ClaimRefused(f"{self.code}: {word!r} is never heard here ({nearest(word, names)})")
        moves: dict[Hashable, dict[str, Hashable]] = {
            here: {name: to for name in names if (to := at.moves.get(name, at.otherwise)) is not None}
            for here, at in self.places.items()
        }
        return Order(next(iter(self.places)), moves, frozenset(self.places.keys() - self.due))

    def __repr__(self) -> str:
        return self.code


def before(first: Enum | str, then: Enum | str) -> Claim:
    """Each *then* has a *first* before it, since the *then* before.

    Example:
        >>> order = before("loss_end", "backward_begin").order(Event)
        >>> order.judge(["loss_end", "backward_begin", "backward_begin"]).at
        2
    """
    one, two = _distinct("before", first, then)
    return Claim(
        f"before({one!r}, {two!r})",
        f"each {two} has a {one} before it, since the {two} before",
        (one, two),
        {"none": At("none", {one: "one", two: None}), "one": At("one", {two: "none"})},
    )


def never(word: Enum | str, *, between: tuple[Enum | str, Enum | str] | None = None) -> Claim:
    """No *word* is heard; or none from the first of a pair to its second, or to an exception.

    Example:
        >>> order = never("step_begin", between=("backward_begin", "backward_end")).order(Event)
        >>> order.judge(["step_begin", "backward_begin", "step_begin"]).at
        2
    """
    if between is None:
        name = _name(word)
        return Claim(f"never({name!r})", f"{name} is never heard", (name,), {"ever": At("ever", {name: None})})
    if isinstance(between, str) or len(between) != BOTH:
        raise ClaimRefused(f"never was given between={between!r}: two events are needed, from the one to the other")
    name, begin, end = _distinct("never", word, *between)
    outside, inside = At("outside", {begin: "inside"}), At("inside", {end: "outside", EXCEPTION: "outside", name: None})
    return Claim(
        f"never({name!r}, between=({begin!r}, {end!r}))",
        f"{name} is never heard between {begin} and {end}",
        (name, begin, end),
        {"outside": outside, "inside": inside},
    )


def at_most_once(word: Enum | str, *, within: str | None = None) -> Claim:
    """The *word* is heard once in a run, or not at all; or once in each of the scopes *within*.

    Args:
        word: The event.
        within: A scope, `"batch"` say: it is counted anew at each `batch_begin`.

    Example:
        >>> order = at_most_once("step_end", within="batch").order(Event)
        >>> order.judge(["batch_begin", "step_end", "batch_end", "batch_begin", "step_end", "step_end"]).at
        5
    """
    name, *_ = (_name(word),) if within is None else _distinct("at_most_once", word, f"{within}_begin")
    anew = {} if within is None else {f"{within}_begin": "none"}
    where, code = ("a run", "") if within is None else (f"one {within}", f", within={within!r}")
    return Claim(
        f"at_most_once({name!r}{code})",
        f"{name} is heard at most once in {where}",
        (name, *anew),
        {"none": At("none", {name: "once"}), "once": At("once", {name: None, **anew})},
    )


@frozen
class Each:
    """The events of one name; what is claimed of each of them follows."""

    word: str

    def followed_by(self, *events: Enum | str) -> Claim:
        """The next that is heard is one of these, unless the run dies.

        Example:
            >>> order = each("backward_end").followed_by("step_begin", "batch_end").order(Event)
            >>> order.judge(["backward_end", "step_begin"]).prefix, order.judge(["backward_end", "stop"]).at
            (True, 1)
        """
        return self._followed("followed_by", "directly followed by", None, events)

    def followed_later_by(self, *events: Enum | str) -> Claim:
        """One of these is heard later on, unless the run dies.

        Example:
            >>> bool(each("epoch_begin").followed_later_by("epoch_end").order(Event).judge(["epoch_begin", "stop"]))
            False
        """
        return self._followed("followed_later_by", "sooner or later followed by", "due", events)

    def _followed(self, how: str, worded: str, otherwise: str | None, events: Collection[Enum | str]) -> Claim:
        names = tuple(map(_name, events))
        if not names:
            raise ClaimRefused(f"each({self.word!r}).{how}() names no event: say by which ones it is followed")
        after = {name: "due" if name == self.word else "none" for name in names}
        return Claim(
            f"each({self.word!r}).{how}({', '.join(map(repr, names))})",
            f"each {self.word} is {worded} {' or '.join(names)}, unless the run dies",
            (self.word, *names),
            {"none": At("none", {self.word: "due"}), "due": At(otherwise, {EXCEPTION: "none", **after})},
            frozenset({"due"}),
        )


def each(word: Enum | str) -> Each:
    """Begin a claim about each of the events of one name.

    Example:
        >>> each("stop").followed_by("train_end", "epoch_end")
        each('stop').followed_by('train_end', 'epoch_end')
    """
    return Each(_name(word))


def _name(word: Enum | str) -> str:
    return name_of(word) if isinstance(word, Enum) else word


def _distinct(kind: str, *words: Enum | str) -> tuple[str, ...]:
    names = tuple(map(_name, words))
    if len({*names}) < len(names):
        raise ClaimRefused(f"{kind} was given {', '.join(names)}: they have to be different events")
    return names
