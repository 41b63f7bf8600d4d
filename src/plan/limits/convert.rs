//! The arithmetic between cgroup v1's units, in which the specification thinks, and those of cgroup v2 and
//! systemd.

/// The weight that `cpu.shares` stand for: 2 and less is 1, 1024 is 100, 262144 and more is 10000.
///
/// Both scales are logarithmic in practice, and their defaults are in the same place of neither. So the exponent
/// is the parabola through these three points. (Up to 2025 runtimes used the straight line, which made 39 of the
/// default of 1024.)
pub fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

/// The `io.weight` that a `blockIO.weight` of 10 to 1000 stands for: the straight line from 1 to 10000.
pub fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight) - 10) * 9999 / 990
}

/// CPU time in microseconds a second, as a systemd unit has it, and the quota that this comes to: systemd counts
/// in whole percents of a processor, and rounding up gives nobody less than what was asked for.
pub fn quota_of_unit(quota: u64, period: u64) -> (u64, u64) {
    const PERCENT: u128 = 10_000;
    const SECOND: u128 = 1_000_000;
    let (wide, period) = (u128::from(quota), u128::from(period.max(1)));
    let exact = wide * SECOND / period;
    let narrow = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
    if exact % PERCENT == 0 {
        return (narrow(exact), quota);
    }
    let rounded = exact.div_ceil(PERCENT) * PERCENT;
    (narrow(rounded), narrow(rounded * period / SECOND))
}

/// More than any kernel is built for (8192 processors, 1024 memory nodes).
const MOST_BITS: usize = 1 << 16;

/// The bitmask, lowest byte first, of a list such as `0-3,8`: what a systemd unit takes for it.
///
/// # Errors
/// What is no such list, or an empty one.
pub fn bits(list: &str) -> Result<Vec<u8>, String> {
    let bad = || format!("{list:?} is no list like 0-3,8: invalid argument");
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse::<usize>().ok() } else { None };
        number.filter(|n| *n < MOST_BITS).ok_or_else(bad)
    };
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(bad());
        }
        if mask.len() <= last / 8 {
            mask.resize(last / 8 + 1, 0);
        }
        for bit in first..=last {
            mask[bit / 8] |= 1_u8 << (bit % 8);
        }
    }
    if mask.is_empty() { Err(bad()) } else { Ok(mask) }
}

/// A size as people write it: a number, perhaps with a fraction, and perhaps a unit of powers of 1024 (`512m`,
/// `1.5G`, `64 KiB`, `10b`). `-1` is no limit.
///
/// # Errors
/// What is no such size.
pub fn size(text: &str) -> Result<i64, String> {
    let bad = || format!("{text:?} is no size like 512m: invalid argument");
    if text == "-1" {
        return Ok(-1);
    }
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').ok_or_else(bad)? + 1;
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(bad()),
    };
    let factor = 1_i64 << (10 * power);
    if let Ok(whole) = number.parse::<u64>() {
        return i64::try_from(whole).ok().and_then(|n| n.checked_mul(factor)).ok_or_else(bad);
    }
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let size = number.parse::<f64>().ok().filter(|_| plain).ok_or_else(bad)? * factor as f64;
    // The cast rounds down; 2^63 itself is the first that does not fit.
    if size < i64::MAX as f64 { Ok(size as i64) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_by_the_curve_through_minimum_default_and_maximum() {
        for (shares, weight) in [
            (1, 1),
            (2, 1),
            (3, 2),
            (100, 17),
            (102, 17),
            (200, 29),
            (512, 59),
            (1000, 99),
            (1024, 100),
            (2048, 174),
            (10_240, 639),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn weights_never_fall_and_stay_in_range() {
        let weights: Vec<u64> = (0..300_000).map(weight_of_shares).collect();
        assert!(weights.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(weights.iter().all(|weight| (1..=10_000).contains(weight)));
        let weights: Vec<u64> = (10..=1000).map(io_weight).collect();
        assert!(weights.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((weights[0], weights[740], weights[990]), (1, 7475, 10_000));
    }

    #[test]
    fn a_unit_gets_no_less_cpu_time_than_was_asked_for_and_at_most_one_percent_more() {
        assert_eq!(quota_of_unit(5000, 100_000), (50_000, 5000));
        assert_eq!(quota_of_unit(3333, 100_000), (40_000, 4000));
        assert_eq!(quota_of_unit(600_000, 900_000), (670_000, 603_000));
        assert_eq!(quota_of_unit(200_000, 100_000), (2_000_000, 200_000));
        for quota in (1000..400_000).step_by(997) {
            for period in [1000, 33_333, 100_000, 1_000_000] {
                let (unit, rounded) = quota_of_unit(quota, period);
                let exact = quota * 1_000_000 / period;
                assert!(unit % 10_000 == 0 && (exact..exact + 10_000).contains(&unit), "{quota} {period}");
                assert!(rounded >= quota, "{quota} {period}");
            }
        }
        assert_eq!(quota_of_unit(u64::MAX, 1).0, u64::MAX);
    }

    #[test]
    fn lists_become_masks_with_the_lowest_byte_first() {
        for (list, mask) in [
            ("0", &[1_u8][..]),
            ("0-3,8", &[0b1111, 1]),
            ("7-8", &[0b1000_0000, 1]),
            (" 1, 3-4 ,", &[0b1_1010]),
            ("5-8", &[0b1110_0000, 1]),
            ("16", &[0, 0, 1]),
        ] {
            assert_eq!(bits(list).as_deref(), Ok(mask), "{list}");
        }
        for bad in
            ["", ",", "a", "1-", "-1", "3-1", "1--2", "0x1", "+1", "0-65536", "99999999999999999999", "1 2"]
        {
            assert!(bits(bad).unwrap_err().ends_with("invalid argument"), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("-1", -1),
            ("0", 0),
            ("1024", 1024),
            ("10b", 10),
            ("1k", 1024),
            ("50M", 50 << 20),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            (".5k", 512),
            ("64 KiB", 65_536),
            ("2mb", 2 << 20),
            ("1T", 1 << 40),
            ("2PiB", 1 << 51),
            ("1.0009765625k", 1025),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "m",
            "b",
            "-2",
            "-1m",
            "1x",
            "1ib",
            "1kbb",
            "1 k b",
            "1  k",
            "1.2.3",
            "inf",
            "nan",
            "1e3x",
            "9223372036854775808",
            "8192p",
            "8192.5p",
            "0x10",
            "1 2",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
