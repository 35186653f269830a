import sys
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))
import schedule


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def window(days: list[str], begin: str, end: str) -> schedule.Window:
    return schedule.Window(
        frozenset(map(schedule.day, days)), schedule.time_of_day(begin), schedule.time_of_day(end)
    )


class Windows(unittest.TestCase):
    def test_a_window_is_open_from_its_begin_to_its_end(self):
        # 2026-11-21 is a Saturday.
        night = window(["sat"], "02:00", "04:30")
        for now, left in [
            ("2026-11-21T01:59:59", None),
            ("2026-11-21T02:00:00", timedelta(hours=2.5)),
            ("2026-11-21T04:29:59", timedelta(seconds=1)),
            ("2026-11-21T04:30:00", None),
            ("2026-11-22T03:00:00", None),
        ]:
            self.assertEqual(night.left(at(now)), left, now)

    def test_a_window_over_midnight_belongs_to_the_day_it_begins_on(self):
        night = window(["sat"], "23:00", "01:00")
        self.assertEqual(night.left(at("2026-11-22T00:30:00")), timedelta(minutes=30))
        self.assertIsNone(night.left(at("2026-11-21T00:30:00")))

    def test_a_whole_day_is_from_0_to_24(self):
        day = window(schedule.DAYS, "00:00", "24:00")
        self.assertEqual(day.left(at("2026-11-22T00:00:00")), timedelta(days=1))

    def test_of_windows_that_overlap_the_longest_counts(self):
        windows = [window(["sat"], "02:00", "04:00"), window(["sat"], "03:00", "06:00")]
        self.assertEqual(schedule.left(windows, at("2026-11-21T03:00:00")), timedelta(hours=3))
        self.assertIsNone(schedule.left(windows, at("2026-11-21T07:00:00")))


class Texts(unittest.TestCase):
    def test_what_is_no_time_is_refused(self):
        for text in ["", "2", "02:60", "24:01", "-1:00", "02:3", "a:00"]:
            with self.assertRaises(ValueError, msg=text):
                schedule.time_of_day(text)

    def test_what_is_no_offset_is_refused(self):
        self.assertEqual(schedule.utc_offset("-03:30"), -timedelta(hours=3.5))
        for text in ["", "02:00", "+24:00", "+x"]:
            with self.assertRaises(ValueError, msg=text):
                schedule.utc_offset(text)


if __name__ == "__main__":
    unittest.main()
