//! What a number is a number of: dimensions, units, and how values are written for people.
//!
//! Values are computed in base units (seconds, bytes, joules, tokens, requests) and shown in the canonical unit of their
//! dimension (milliseconds for times), so that `mean gpu.power / output_tps < 0.9 J/tok` needs no special case.

use std::ops::{Div, Mul};

/// The exponents of the base units in a quantity: `tok/s` has one token and minus one time. All zero: a pure number or a share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dimension {
    time: i8,
    token: i8,
    request: i8,
    byte: i8,
    energy: i8,
    temperature: i8,
    cycle: i8,
    money: i8,
}

#[allow(missing_docs, reason = "the names are the dimensions'")]
impl Dimension {
    pub const NONE: Dimension = Dimension {
        time: 0,
        token: 0,
        request: 0,
        byte: 0,
        energy: 0,
        temperature: 0,
        cycle: 0,
        money: 0,
    };
    pub const TIME: Dimension = Dimension {
        time: 1,
        ..Dimension::NONE
    };
    pub const TOKEN: Dimension = Dimension {
        token: 1,
        ..Dimension::NONE
    };
    pub const REQUEST: Dimension = Dimension {
        request: 1,
        ..Dimension::NONE
    };
    pub const BYTE: Dimension = Dimension {
        byte: 1,
        ..Dimension::NONE
    };
    pub const ENERGY: Dimension = Dimension {
        energy: 1,
        ..Dimension::NONE
    };
    pub const POWER: Dimension = Dimension {
        energy: 1,
        time: -1,
        ..Dimension::NONE
    };
    pub const TEMPERATURE: Dimension = Dimension {
        temperature: 1,
        ..Dimension::NONE
    };
    pub const FREQUENCY: Dimension = Dimension {
        cycle: 1,
        time: -1,
        ..Dimension::NONE
    };
    pub const MONEY: Dimension = Dimension {
        money: 1,
        ..Dimension::NONE
    };
    pub const PER_TIME: Dimension = Dimension {
        time: -1,
        ..Dimension::NONE
    };
    pub const TOKENS_PER_TIME: Dimension = Dimension {
        token: 1,
        time: -1,
        ..Dimension::NONE
    };
    pub const REQUESTS_PER_TIME: Dimension = Dimension {
        request: 1,
        time: -1,
        ..Dimension::NONE
    };
    pub const ENERGY_PER_TOKEN: Dimension = Dimension {
        energy: 1,
        token: -1,
        ..Dimension::NONE
    };
    pub const TOKENS_PER_ENERGY: Dimension = Dimension {
        energy: -1,
        token: 1,
        ..Dimension::NONE
    };
}

impl Dimension {
    fn combine(self, other: Dimension, sign: i8) -> Dimension {
        let add = |a: i8, b: i8| a.saturating_add(b.saturating_mul(sign));
        Dimension {
            time: add(self.time, other.time),
            token: add(self.token, other.token),
            request: add(self.request, other.request),
            byte: add(self.byte, other.byte),
            energy: add(self.energy, other.energy),
            temperature: add(self.temperature, other.temperature),
            cycle: add(self.cycle, other.cycle),
            money: add(self.money, other.money),
        }
    }

    /// Whether it is tokens, requests or nothing per time, so that a bare `/s` may stand for it.
    pub fn is_count_per_time(self) -> bool {
        [
            Dimension::PER_TIME,
            Dimension::TOKENS_PER_TIME,
            Dimension::REQUESTS_PER_TIME,
        ]
        .contains(&self)
    }

    /// The unit in which values of this dimension are written in files; `None` for an unusual combination.
    pub fn canonical(self) -> Option<&'static Unit> {
        let text = match self {
            Dimension::TIME => "ms",
            Dimension::TOKEN => "tok",
            Dimension::REQUEST => "req",
            Dimension::BYTE => "B",
            Dimension::ENERGY => "J",
            Dimension::POWER => "W",
            Dimension::TEMPERATURE => "°C",
            Dimension::FREQUENCY => "MHz",
            Dimension::MONEY => "$",
            Dimension::PER_TIME => "/s",
            Dimension::TOKENS_PER_TIME => "tok/s",
            Dimension::REQUESTS_PER_TIME => "req/s",
            Dimension::ENERGY_PER_TOKEN => "J/tok",
            Dimension::TOKENS_PER_ENERGY => "tok/J",
            _ => return None,
        };
        Unit::find(text)
    }

    /// The dimension in words, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::NONE => "a number",
            Dimension::TIME => "a time",
            Dimension::TOKEN => "tokens",
            Dimension::REQUEST => "requests",
            Dimension::BYTE => "bytes",
            Dimension::ENERGY => "energy",
            Dimension::POWER => "power",
            Dimension::TEMPERATURE => "a temperature",
            Dimension::FREQUENCY => "a frequency",
            Dimension::MONEY => "money",
            Dimension::PER_TIME => "a rate per second",
            Dimension::TOKENS_PER_TIME => "tokens per second",
            Dimension::REQUESTS_PER_TIME => "requests per second",
            Dimension::ENERGY_PER_TOKEN => "energy per token",
            Dimension::TOKENS_PER_ENERGY => "tokens per energy",
            _ => "a combined quantity",
        }
    }

    /// A base value in the canonical unit: seconds become milliseconds. Times are rounded to a nanosecond, so that what was
    /// stamped as 100 ms is written as 100.
    pub fn to_canonical(self, base: f64) -> f64 {
        match self {
            Dimension::TIME => {
                let ms = base * 1e3;
                if ms.is_finite() && ms.abs() < 1e9 {
                    (ms * 1e6).round() / 1e6
                } else {
                    ms
                }
            }
            _ => match self.canonical() {
                Some(unit) => base / unit.scale * unit.divisor,
                None => base,
            },
        }
    }

    /// The canonical unit as written; empty for shares, counts without a unit and unusual combinations.
    pub fn unit_text(self) -> &'static str {
        self.canonical().map_or("", |unit| unit.text)
    }
}

impl Mul for Dimension {
    type Output = Dimension;
    fn mul(self, other: Dimension) -> Dimension {
        self.combine(other, 1)
    }
}

impl Div for Dimension {
    type Output = Dimension;
    fn div(self, other: Dimension) -> Dimension {
        self.combine(other, -1)
    }
}

/// A unit as it is written behind a number. One unit is `scale / divisor` base units: two numbers, so that 9 ms is exactly
/// the same number as 9 000 000 ns.
#[derive(Debug)]
pub struct Unit {
    /// As written.
    pub text: &'static str,
    /// Its dimension.
    pub dimension: Dimension,
    scale: f64,
    divisor: f64,
}

impl PartialEq for &'static Unit {
    fn eq(&self, other: &&'static Unit) -> bool {
        self.text == other.text
    }
}

const fn unit(text: &'static str, dimension: Dimension, scale: f64, divisor: f64) -> Unit {
    Unit {
        text,
        dimension,
        scale,
        divisor,
    }
}

/// Every unit of the assertion language, except `%` and `pp`, which are shares.
pub static UNITS: &[Unit] = &[
    unit("ns", Dimension::TIME, 1.0, 1e9),
    unit("us", Dimension::TIME, 1.0, 1e6),
    unit("µs", Dimension::TIME, 1.0, 1e6),
    unit("ms", Dimension::TIME, 1.0, 1e3),
    unit("s", Dimension::TIME, 1.0, 1.0),
    unit("m", Dimension::TIME, 60.0, 1.0),
    unit("h", Dimension::TIME, 3600.0, 1.0),
    unit("tok", Dimension::TOKEN, 1.0, 1.0),
    unit("req", Dimension::REQUEST, 1.0, 1.0),
    unit("B", Dimension::BYTE, 1.0, 1.0),
    unit("KiB", Dimension::BYTE, 1024.0, 1.0),
    unit("MiB", Dimension::BYTE, 1_048_576.0, 1.0),
    unit("GiB", Dimension::BYTE, 1_073_741_824.0, 1.0),
    unit("TiB", Dimension::BYTE, 1_099_511_627_776.0, 1.0),
    unit("KB", Dimension::BYTE, 1e3, 1.0),
    unit("MB", Dimension::BYTE, 1e6, 1.0),
    unit("GB", Dimension::BYTE, 1e9, 1.0),
    unit("TB", Dimension::BYTE, 1e12, 1.0),
    unit("W", Dimension::POWER, 1.0, 1.0),
    unit("kW", Dimension::POWER, 1e3, 1.0),
    unit("J", Dimension::ENERGY, 1.0, 1.0),
    unit("kJ", Dimension::ENERGY, 1e3, 1.0),
    unit("Wh", Dimension::ENERGY, 3600.0, 1.0),
    unit("kWh", Dimension::ENERGY, 3_600_000.0, 1.0),
    unit("°C", Dimension::TEMPERATURE, 1.0, 1.0),
    unit("MHz", Dimension::FREQUENCY, 1e6, 1.0),
    unit("GHz", Dimension::FREQUENCY, 1e9, 1.0),
    unit("$", Dimension::MONEY, 1.0, 1.0),
    unit("tok/s", Dimension::TOKENS_PER_TIME, 1.0, 1.0),
    unit("tok/min", Dimension::TOKENS_PER_TIME, 1.0, 60.0),
    unit("req/s", Dimension::REQUESTS_PER_TIME, 1.0, 1.0),
    unit("req/min", Dimension::REQUESTS_PER_TIME, 1.0, 60.0),
    unit("req/h", Dimension::REQUESTS_PER_TIME, 1.0, 3600.0),
    unit("tok/J", Dimension::TOKENS_PER_ENERGY, 1.0, 1.0),
    unit("J/tok", Dimension::ENERGY_PER_TOKEN, 1.0, 1.0),
    unit("/s", Dimension::PER_TIME, 1.0, 1.0),
    unit("/min", Dimension::PER_TIME, 1.0, 60.0),
    unit("/h", Dimension::PER_TIME, 1.0, 3600.0),
];

impl Unit {
    /// The unit that is written so.
    pub fn find(text: &str) -> Option<&'static Unit> {
        UNITS.iter().find(|unit| unit.text == text)
    }

    /// `number` of this unit, in base units.
    pub fn to_base(&self, number: f64) -> f64 {
        number * self.scale / self.divisor
    }
}

/// A base value as a person writes it: `312ms`, `12.4s`, `78.2GiB`, `0.4%`, `1290tok/s`, `∞`.
pub fn format_value(base: f64, dimension: Dimension, share: bool) -> String {
    if base.is_infinite() {
        return if base > 0.0 { "∞" } else { "-∞" }.to_owned();
    }
    if base.is_nan() {
        return "undefined".to_owned();
    }
    if share {
        return format!("{}%", significant(base * 100.0));
    }
    match dimension {
        Dimension::TIME => {
            let magnitude = base.abs();
            if magnitude >= 10.0 {
                format!("{}s", significant(base))
            } else if magnitude >= 1e-3 || magnitude == 0.0 {
                format!("{}ms", significant(base * 1e3))
            } else {
                format!("{}µs", significant(base * 1e6))
            }
        }
        Dimension::BYTE => {
            let (scale, unit) = match base.abs() {
                b if b >= 1_073_741_824.0 => (1_073_741_824.0, "GiB"),
                b if b >= 1_048_576.0 => (1_048_576.0, "MiB"),
                b if b >= 1024.0 => (1024.0, "KiB"),
                _ => (1.0, "B"),
            };
            format!("{}{unit}", significant(base / scale))
        }
        Dimension::TOKEN | Dimension::REQUEST | Dimension::NONE => significant(base),
        Dimension::MONEY => format!("${}", significant(base)),
        _ => format!(
            "{}{}",
            significant(dimension.to_canonical(base)),
            dimension.unit_text()
        ),
    }
}

/// Four significant digits, whole numbers in full: `0.01234`, `12.35`, `1290`, `123457`.
fn significant(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude >= 1000.0 || magnitude == 0.0 {
        return format!("{}", number.round());
    }
    let digits = 3 - (magnitude.log10().floor() as i32);
    let text = format!("{number:.*}", digits.clamp(0, 9) as usize);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watts_per_token_rate_is_energy_per_token() {
        assert_eq!(
            Dimension::POWER / Dimension::TOKENS_PER_TIME,
            Dimension::ENERGY_PER_TOKEN
        );
        assert_eq!(
            Dimension::REQUESTS_PER_TIME * Dimension::TIME,
            Dimension::REQUEST
        );
    }

    #[test]
    fn a_written_time_is_the_same_number_as_a_stamped_one() {
        for ms in 1..2000u64 {
            let written = Unit::find("ms").unwrap().to_base(ms as f64);
            assert_eq!(written, (ms * 1_000_000) as f64 / 1e9);
            assert_eq!(Dimension::TIME.to_canonical(written), ms as f64);
        }
    }

    #[test]
    fn values_are_written_for_people() {
        let text = |base, dimension| format_value(base, dimension, false);
        assert_eq!(text(0.312, Dimension::TIME), "312ms");
        assert_eq!(text(0.0124, Dimension::TIME), "12.4ms");
        assert_eq!(text(1.012, Dimension::TIME), "1012ms");
        assert_eq!(text(12.44, Dimension::TIME), "12.44s");
        assert_eq!(text(78.2 * 1_073_741_824.0, Dimension::BYTE), "78.2GiB");
        assert_eq!(text(1290.4, Dimension::TOKENS_PER_TIME), "1290tok/s");
        assert_eq!(text(f64::INFINITY, Dimension::TIME), "∞");
        assert_eq!(format_value(0.004, Dimension::NONE, true), "0.4%");
        assert_eq!(format_value(0.0, Dimension::NONE, true), "0%");
    }
}
