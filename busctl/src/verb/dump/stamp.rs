//! When a frame was sent, as `-t` asks for it.

use std::io::{self, Write};
use std::time::Duration;

use chrono::{DateTime, Local};

/// When a frame was sent or arrived, since 1970 or the start of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) seconds: u64,
    pub(super) microseconds: u32,
}

/// How a stamp is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StampForm {
    /// Not at all.
    None,
    /// Seconds since 1970.
    Seconds,
    /// Hours, minutes and seconds behind the frame before.
    SincePrevious,
    /// Date and time of this place.
    Date,
    /// Hours, minutes and seconds behind the first frame.
    SinceFirst,
}

impl StampForm {
    /// Returns what so many `-t` stand for.
    pub(super) fn of(count: u8) -> Self {
        match count {
            0 | 2 => Self::Seconds,
            1 => Self::None,
            3 => Self::SincePrevious,
            4 => Self::Date,
            _ => Self::SinceFirst,
        }
    }
}

/// Prints the stamps of one frame after the other.
pub(super) struct Clock {
    form: StampForm,
    /// What the next stamp is compared with.
    base: Option<Duration>,
}

impl Clock {
    pub(super) fn new(form: StampForm) -> Self {
        Self { form, base: None }
    }

    /// Writes the stamp of the next frame, with a space behind it.
    pub(super) fn write(&mut self, file: &mut impl Write, stamp: Stamp) -> io::Result<()> {
        let Stamp { seconds, microseconds } = stamp;
        let time = Duration::new(seconds, microseconds.min(999_999) * 1000);
        match self.form {
            StampForm::None => Ok(()),
            StampForm::Seconds => write!(file, "{seconds}.{microseconds:06} "),
            StampForm::Date => {
                let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
                match DateTime::from_timestamp(seconds, time.subsec_nanos()) {
                    Some(time) => {
                        let local = time.with_timezone(&Local);
                        write!(file, "{} ", local.format("%Y-%m-%d %H:%M:%S%.6f"))
                    }
                    None => write!(file, "{seconds}.{microseconds:06} "),
                }
            }
            StampForm::SincePrevious | StampForm::SinceFirst => {
                let base = *self.base.get_or_insert(time);
                if self.form == StampForm::SincePrevious {
                    self.base = Some(time);
                }
                // Clocks of several senders may differ.
                let sign = if time < base { "-" } else { " " };
                let apart = time.abs_diff(base);
                let (seconds, micros) = (apart.as_secs(), apart.subsec_micros());
                let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
                write!(file, "{sign}{hours:02}:{minutes:02}:{:02}.{micros:06} ", seconds % 60)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_t_is_another_form() {
        let text = |count| {
            let mut clock = Clock::new(StampForm::of(count));
            let mut text = Vec::new();
            for (seconds, microseconds) in [(5, 7), (3_670, 0), (3_669, 999_999)] {
                clock.write(&mut text, Stamp { seconds, microseconds }).unwrap();
            }
            String::from_utf8(text).unwrap()
        };
        assert_eq!(text(0), "5.000007 3670.000000 3669.999999 ");
        assert_eq!(text(1), "");
        assert_eq!(text(2), text(0));
        assert_eq!(text(3), " 00:00:00.000000  01:01:04.999993 -00:00:00.000001 ");
        assert_eq!(text(5), " 00:00:00.000000  01:01:04.999993  01:01:04.999992 ");
        // The zone is that of the machine.
        assert!(text(4).contains(":00:05.000007 ") || text(4).contains(":30:05.000007 "));
    }
}
