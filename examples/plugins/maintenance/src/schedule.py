"""When maintenance is, and how long it still takes."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@dataclass(frozen=True)
class Window:
    """A time of day on some days of the week. One that ends before it begins ends on the next day."""

    days: frozenset[int]
    begin: timedelta
    end: timedelta

    def left(self, now: datetime) -> timedelta | None:
        """How long it is until the end; none outside."""
        midnight = datetime.combine(now.date(), time(), now.tzinfo)
        length = self.end - self.begin
        if length <= timedelta():
            length += timedelta(days=1)
        for day in (midnight, midnight - timedelta(days=1)):
            begin = day + self.begin
            if day.weekday() in self.days and begin <= now < begin + length:
                return begin + length - now
        return None


def left(windows: list[Window], now: datetime) -> timedelta | None:
    """How long the windows that are open last, the longest of them."""
    return max((left for window in windows if (left := window.left(now)) is not None), default=None)


def time_of_day(text: str) -> timedelta:
    """Reads `02:30`; `24:00` is the end of a day."""
    hours, colon, minutes = text.partition(":")
    if not (colon and hours.isdigit() and minutes.isdigit() and len(minutes) == 2):
        raise ValueError(f"`{text}` is no time of day such as 02:30")
    of_day = timedelta(hours=int(hours), minutes=int(minutes))
    if int(minutes) > 59 or of_day > timedelta(days=1):
        raise ValueError(f"`{text}` is no time of day such as 02:30")
    return of_day


def day(text: str) -> int:
    """Reads `mon`."""
    if text not in DAYS:
        raise ValueError(f"`{text}` is no day; days are {', '.join(DAYS)}")
    return DAYS.index(text)


def utc_offset(text: str) -> timedelta:
    """Reads `+02:00`."""
    sign, rest = text[:1], text[1:]
    if sign not in ("+", "-"):
        raise ValueError(f"`{text}` is no offset such as +02:00")
    offset = time_of_day(rest)
    if offset >= timedelta(days=1):
        raise ValueError(f"`{text}` is no offset such as +02:00")
    return offset if sign == "+" else -offset
