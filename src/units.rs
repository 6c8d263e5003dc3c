//! Quantities with their units: instants, rates, sizes, shares, and how they are written in a scenario file.
//!
//! Whatever has a dimension is a string with a unit (`30s`, `8/s`, `78 GiB`, `500ms`, `5%`); a bare number is refused with a
//! suggestion. Parsed once into a type that cannot be wrong, a quantity is not checked again.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds since the cell began, on the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The instant at which the cell began.
    pub const ZERO: Moment = Moment(0);
    /// Later than every instant that can be observed.
    pub const MAX: Moment = Moment(u64::MAX);

    /// The instant `ns` nanoseconds after the cell began.
    pub const fn from_ns(ns: u64) -> Moment {
        Moment(ns)
    }

    /// The instant `ms` milliseconds after the cell began.
    pub const fn from_ms(ms: u64) -> Moment {
        Moment(ms * 1_000_000)
    }

    /// The instant `seconds` after the cell began, rounded to a nanosecond once; a negative one is the beginning.
    pub fn from_secs_f64(seconds: f64) -> Moment {
        Moment((seconds * 1e9).round().max(0.0) as u64)
    }

    /// Nanoseconds since the cell began.
    pub const fn ns(self) -> u64 {
        self.0
    }

    /// Milliseconds since the cell began.
    pub fn as_ms(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Seconds since the cell began.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The time from `earlier` to `self`; zero if `earlier` is the later one.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, duration: Duration) -> Moment {
        Moment(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Moment> for Moment {
    type Output = Duration;
    fn sub(self, earlier: Moment) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.as_secs())
    }
}

/// Events per second; finite and never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// `per_second` events a second, or `None` if that is no rate (negative, infinite, not a number).
    pub fn new(per_second: f64) -> Option<Rate> {
        (per_second.is_finite() && per_second >= 0.0).then_some(Rate(per_second))
    }

    /// Events per second.
    pub fn per_second(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", trim_float(self.0))
    }
}

/// A share of a whole as a fraction: `5%` is 0.05.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// The share `fraction` of a whole, or `None` if it is negative or not finite.
    pub fn new(fraction: f64) -> Option<Share> {
        (fraction.is_finite() && fraction >= 0.0).then_some(Share(fraction))
    }

    /// The share as a fraction of one.
    pub fn fraction(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", trim_float(self.0 * 100.0))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Why a text is not the quantity that it should be, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantityError {
    /// What is wrong, as a lower-case fragment.
    pub message: String,
    /// What to write instead, if that can be guessed.
    pub help: Option<String>,
}

impl QuantityError {
    pub(crate) fn new(
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> QuantityError {
        QuantityError {
            message: message.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for QuantityError {}

/// Reads a duration: `30s`, `1.5s`, `500ms`, `2m`, `1h`, `2m 30s`, `1m30s`. `m` is minutes.
///
/// # Errors
/// A bare number, an unknown unit, a negative or an empty text.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let trimmed = text.trim();
    if trimmed.contains(':') {
        return Err(QuantityError::new(
            format!("`{trimmed}` is not a duration"),
            format!(
                "write seconds or minutes, like `{}`",
                sexagesimal_hint(trimmed)
            ),
        ));
    }
    let mut rest = trimmed;
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(QuantityError::new(
            "a duration is missing",
            "write it with a unit, like `30s`".to_owned(),
        ));
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or_else(|| {
            QuantityError::new(
                format!("`{trimmed}` is not a duration"),
                "write it like `30s`, `500ms`, `2m`".to_owned(),
            )
        })?;
        let after = after.trim_start();
        let unit_length = after
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "" => {
                return Err(QuantityError::new(
                    format!("`{trimmed}` has no unit"),
                    format!(
                        "write `{0}s` for seconds or `{0}ms` for milliseconds",
                        trim_float(number)
                    ),
                ));
            }
            other => {
                let meant = match other.to_ascii_lowercase().as_str() {
                    "sec" | "secs" | "second" | "seconds" => "s",
                    "min" | "mins" | "minute" | "minutes" => "m",
                    "hour" | "hours" | "hr" | "hrs" => "h",
                    "msec" | "millis" | "milliseconds" | "millisecond" => "ms",
                    _ => "",
                };
                let help = if meant.is_empty() {
                    "units of time are ns, us, ms, s, m (minutes), h".to_owned()
                } else {
                    format!("did you mean `{}{meant}`?", trim_float(number))
                };
                return Err(QuantityError::new(
                    format!("`{other}` is not a unit of time"),
                    help,
                ));
            }
        };
        total += number * seconds;
        rest = after.trim_start();
    }
    Duration::try_from_secs_f64((total * 1e9).round() / 1e9).map_err(|_| {
        QuantityError::new(format!("`{trimmed}` is out of range for a duration"), None)
    })
}

/// Reads a rate: `8/s`, `60/min`, `3600/h`, `8 req/s`.
///
/// # Errors
/// A bare number, an unknown unit, a negative number.
pub fn parse_rate(text: &str) -> Result<Rate, QuantityError> {
    let trimmed = text.trim();
    let bad = || {
        QuantityError::new(
            format!("`{trimmed}` is not a rate"),
            "write it like `8/s` or `60/min`".to_owned(),
        )
    };
    let (number, rest) = split_number_with_suffix(trimmed).ok_or_else(bad)?;
    let rest = rest.trim_start();
    let rest = ["requests", "req", "tokens", "tok"]
        .iter()
        .find_map(|word| rest.strip_prefix(word))
        .unwrap_or(rest)
        .trim_start();
    if rest.is_empty() {
        return Err(QuantityError::new(
            format!("`{trimmed}` has no unit"),
            format!("write `{}/s` for a rate per second", trim_float(number)),
        ));
    }
    let per = rest.strip_prefix('/').ok_or_else(bad)?.trim();
    let seconds = match per {
        "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => {
            return Err(QuantityError::new(
                format!("`/{per}` is not a unit of a rate"),
                "rates are per `/s`, `/min` or `/h`".to_owned(),
            ));
        }
    };
    Rate::new(number / seconds).ok_or_else(bad)
}

/// Reads a share: `5%`, `0.5%`.
///
/// # Errors
/// A bare number or a negative one.
pub fn parse_share(text: &str) -> Result<Share, QuantityError> {
    let trimmed = text.trim();
    let bad = || {
        QuantityError::new(
            format!("`{trimmed}` is not a share"),
            "write it with a percent sign, like `1%`".to_owned(),
        )
    };
    let (number, rest) = split_number(trimmed).ok_or_else(bad)?;
    match rest.trim() {
        "%" => Share::new(number / 100.0).ok_or_else(bad),
        "" => Err(QuantityError::new(
            format!("`{trimmed}` has no unit"),
            format!(
                "write `{}%`",
                trim_float(number * if number < 1.0 { 100.0 } else { 1.0 })
            ),
        )),
        _ => Err(bad()),
    }
}

/// Reads a size: `78 GiB`, `512MiB`, `80 GB`, `100 B`.
///
/// # Errors
/// A bare number, an unknown unit, a negative number.
pub fn parse_bytes(text: &str) -> Result<ByteSize, QuantityError> {
    let trimmed = text.trim();
    let bad = || {
        QuantityError::new(
            format!("`{trimmed}` is not a size"),
            "write it like `78 GiB` or `512 MB`".to_owned(),
        )
    };
    let (number, rest) = split_number(trimmed).ok_or_else(bad)?;
    let factor = byte_unit(rest.trim()).ok_or_else(|| {
        if rest.trim().is_empty() {
            QuantityError::new(
                format!("`{trimmed}` has no unit"),
                format!("write `{} GiB`, say", trim_float(number)),
            )
        } else {
            QuantityError::new(
                format!("`{}` is not a unit of size", rest.trim()),
                "units of size are B, KiB, MiB, GiB, KB, MB, GB".to_owned(),
            )
        }
    })?;
    if number < 0.0 {
        return Err(bad());
    }
    Ok(ByteSize((number * factor).round() as u64))
}

/// A size for people: `78.4 GiB`, `512 MiB`, `100 B`.
pub fn format_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    let rounded = if value < 100.0 {
        (value * 10.0).round() / 10.0
    } else {
        value.round()
    };
    format!("{} {unit}", trim_float(rounded))
}

/// Bytes in one `unit`, if it is a unit of size.
pub fn byte_unit(unit: &str) -> Option<f64> {
    Some(match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0_f64.powi(4),
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => return None,
    })
}

/// Splits a leading unsigned decimal number off `text`: `"30s"` → `(30.0, "s")`.
pub fn split_number(text: &str) -> Option<(f64, &str)> {
    let length = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(length);
    let number: f64 = number.replace('_', "").parse().ok()?;
    number.is_finite().then_some((number, rest))
}

/// As [`split_number`], with `k` and `M` for thousands and millions: `"100k/min"` → `(100000.0, "/min")`.
fn split_number_with_suffix(text: &str) -> Option<(f64, &str)> {
    let (number, rest) = split_number(text)?;
    Some(match rest.as_bytes().first() {
        Some(b'k') => (number * 1e3, &rest[1..]),
        Some(b'M') => (number * 1e6, &rest[1..]),
        _ => (number, rest),
    })
}

/// A number in its shortest decimal form: `8`, `0.5`, `1.25`.
pub fn trim_float(number: f64) -> String {
    let rounded = (number * 1e9).round() / 1e9;
    format!("{rounded}")
}

/// A duration as a person writes it: `500ms`, `30s`, `3m`, `1h30m`.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds == 0.0 {
        return "0s".to_owned();
    }
    if seconds < 1e-3 {
        return format!("{}us", trim_float((seconds * 1e9).round() / 1e3));
    }
    if seconds < 1.0 {
        return format!("{}ms", trim_float((seconds * 1e5).round() / 1e2));
    }
    if seconds < 60.0 {
        return format!("{}s", trim_float((seconds * 1e2).round() / 1e2));
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    let mut text = String::new();
    for (amount, unit) in [(hours, "h"), (minutes, "m"), (seconds, "s")] {
        if amount > 0 {
            text.push_str(&format!("{amount}{unit}"));
        }
    }
    text
}

fn sexagesimal_hint(text: &str) -> String {
    let parts: Vec<f64> = text
        .split(':')
        .filter_map(|part| part.trim().parse().ok())
        .collect();
    match parts.as_slice() {
        [minutes, seconds] => format!("{}s", trim_float(minutes * 60.0 + seconds)),
        [hours, minutes, seconds] => {
            format!("{}s", trim_float(hours * 3600.0 + minutes * 60.0 + seconds))
        }
        _ => "90s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        let told = [100, 2048, 512 << 20, 84_181_319_680, 3 << 40].map(format_bytes);
        assert_eq!(told, ["100 B", "2 KiB", "512 MiB", "78.4 GiB", "3 TiB"]);
    }

    #[test]
    fn durations_are_read_with_their_units() {
        let read = |text| parse_duration(text).unwrap();
        assert_eq!(read("30s"), Duration::from_secs(30));
        assert_eq!(read("1.5s"), Duration::from_millis(1500));
        assert_eq!(read("500ms"), Duration::from_millis(500));
        assert_eq!(read("2m 30s"), Duration::from_secs(150));
        assert_eq!(read("1m30s"), Duration::from_secs(90));
        assert_eq!(read("1h"), Duration::from_secs(3600));
        assert_eq!(read("0s"), Duration::ZERO);
    }

    #[test]
    fn a_bare_number_is_refused_with_what_to_write() {
        assert_eq!(
            parse_duration("30").unwrap_err().to_string(),
            "`30` has no unit; write `30s` for seconds or `30ms` for milliseconds"
        );
        assert_eq!(
            parse_rate("8").unwrap_err().to_string(),
            "`8` has no unit; write `8/s` for a rate per second"
        );
        assert_eq!(
            parse_share("0.01").unwrap_err().to_string(),
            "`0.01` has no unit; write `1%`"
        );
        assert_eq!(
            parse_bytes("78").unwrap_err().to_string(),
            "`78` has no unit; write `78 GiB`, say"
        );
    }

    #[test]
    fn a_clock_notation_is_refused_with_its_seconds() {
        assert_eq!(
            parse_duration("1:30").unwrap_err().help.unwrap(),
            "write seconds or minutes, like `90s`"
        );
    }

    #[test]
    fn rates_are_per_second_whatever_their_unit() {
        assert_eq!(parse_rate("8/s").unwrap().per_second(), 8.0);
        assert_eq!(parse_rate("60/min").unwrap().per_second(), 1.0);
        assert_eq!(parse_rate("3600/h").unwrap().per_second(), 1.0);
        assert_eq!(parse_rate("0.5 req/s").unwrap().per_second(), 0.5);
        assert!(parse_rate("-1/s").is_err());
    }

    #[test]
    fn sizes_and_shares() {
        assert_eq!(parse_bytes("78 GiB").unwrap().0, 78 << 30);
        assert_eq!(parse_bytes("80GB").unwrap().0, 80_000_000_000);
        assert_eq!(parse_share("0.5%").unwrap().fraction(), 0.005);
    }

    #[test]
    fn durations_are_written_as_a_person_would() {
        assert_eq!(format_duration(Duration::from_millis(500)), "500ms");
        assert_eq!(format_duration(Duration::from_secs(90)), "1m30s");
        assert_eq!(format_duration(Duration::from_secs(3600)), "1h");
        assert_eq!(format_duration(Duration::from_millis(1500)), "1.5s");
    }
}
