"""In which order are callbacks called?  By what they run after, by their own order, by registration."""

import heapq
from collections.abc import Collection, Mapping, Sequence

from engine.errors import CallbackRefused
from engine.listeners import Listener


def arrange(listeners: Sequence[Listener]) -> tuple[Listener, ...]:
    """Put listeners in order: `runs_after` first of all, then `order`, then registration.

    Raises:
        CallbackRefused: a ring in `runs_after`; the ring is named.
    """
    before = {
        index: {
            other
            for other, candidate in enumerate(listeners)
            if type(candidate.source) is not type(listener.source) and isinstance(candidate.source, listener.runs_after)
        }
        for index, listener in enumerate(listeners)
    }
    ready = [(listeners[index].order, index) for index, others in before.items() if not others]
    heapq.heapify(ready)
    arranged: list[int] = []
    while ready:
        _, done = heapq.heappop(ready)
        arranged.append(done)
        for index, others in before.items():
            if done in others:
                others.discard(done)
                if not others:
                    heapq.heappush(ready, (listeners[index].order, index))
    if len(arranged) < len(listeners):
        _refuse_ring(listeners, {index: others for index, others in before.items() if others})
    return tuple(listeners[index] for index in arranged)


def _refuse_ring(listeners: Sequence[Listener], waiting: Mapping[int, Collection[int]]) -> None:
    ring = [next(iter(waiting))]
    while (following := min(waiting[ring[-1]] & waiting.keys())) not in ring:
        ring.append(following)
    names = [listeners[index].name for index in [*ring[ring.index(following) :], following]]
    raise CallbackRefused(
        f"runs_after goes in a ring: {' after '.join(names)}",
        allowed="an order that has a first callback",
        instead="take one of these away",
    )
