"""Whose turn it is when not everybody can be served: the urgent first, then each series in turn."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from domain.messages import Channel, MessageClass

_URGENCY = {
    MessageClass.TRANSACTIONAL: 0,
    MessageClass.SERVICE: 1,
    MessageClass.STAFF: 2,
}


class Waiting(NamedTuple):
    """A message that is due. Selling is shared out by `series`: a campaign is one, however big."""

    id: UUID
    message_class: MessageClass
    channel: Channel
    series: str
    due_at: datetime
    tried: bool = False


class Way(NamedTuple):
    """Providers for one kind of message: those that nobody got through to, and the one to use.

    The former are tried now and then by a message that no provider was tried with. `open` is None
    when there is nobody else.
    """

    passed_over: tuple[str, ...] = ()
    open: str | None = None

    def providers(self, *, tried: bool = False) -> tuple[str, ...]:
        if self.open is None:
            return self.passed_over
        return (self.open,) if tried else (*self.passed_over, self.open)


@dataclass
class Room:
    """How many messages a provider can be handed now, and how many of them may be selling."""

    all: int
    selling: int


class Turns:
    """Remembers which series was served last, so that the next is another's turn."""

    def __init__(self) -> None:
        self._served: dict[str, int] = {}
        self._times = 0

    def next_of(self, series: Iterable[str]) -> str:
        """The one that was served the longest time ago, or never."""
        return min(series, key=lambda one: (self._served.get(one, 0), one))

    def served(self, series: str) -> None:
        self._times += 1
        self._served[series] = self._times


def share_out(
    waiting: Sequence[Waiting],
    ways: Mapping[tuple[MessageClass, Channel], Way],
    rooms: Mapping[str, Room],
    turns: Turns,
) -> list[tuple[Waiting, str]]:
    """Who goes now, in order, and through which provider: the first of its way that has room.

    Selling never takes more than is left to it, so what is urgent finds room at its next turn.
    """
    left = {name: Room(room.all, room.selling) for name, room in rooms.items()}
    going: list[tuple[Waiting, str]] = []

    def went(one: Waiting, *, selling: bool) -> bool:
        for name in ways[one.message_class, one.channel].providers(tried=one.tried):
            room = left[name]
            if room.all > 0 and (room.selling > 0 or not selling):
                room.all -= 1
                room.selling -= selling
                going.append((one, name))
                return True
        return False

    urgent = [one for one in waiting if one.message_class is not MessageClass.MARKETING]
    for one in sorted(urgent, key=lambda each: (_URGENCY[each.message_class], each.due_at)):
        went(one, selling=False)
    series: dict[str, deque[Waiting]] = defaultdict(deque)
    for one in sorted(waiting, key=lambda each: each.due_at):
        if one.message_class is MessageClass.MARKETING:
            series[one.series].append(one)
    while series:
        name = turns.next_of(series)
        if went(series[name].popleft(), selling=True):
            turns.served(name)
        if not series[name]:
            del series[name]
    return going
