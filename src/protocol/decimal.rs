//! Decimal numbers as text, compared by value: no rounding, no exponent, no copy.

use std::cmp::Ordering;

/// A longer text is not a number.
const BYTES_MAX: usize = 200;
/// A text with more digits after the point is not a number.
const FRACTION_DIGITS_MAX: usize = 19;

/// A sign, digits, and up to 19 digits after a point. Leading and trailing zeros are removed, so that equal numbers have
/// equal parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let (negative, digits) = match text.as_bytes() {
            [b'-', digits @ ..] => (true, digits),
            [b'+', digits @ ..] => (false, digits),
            digits => (false, digits),
        };
        let (whole, fraction) = match memchr::memchr(b'.', digits) {
            Some(at) => (&digits[..at], Some(&digits[at + 1..])),
            None => (digits, None),
        };
        let all_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        if !all_digits(whole) || fraction.is_some_and(|part| !all_digits(part) || part.len() > FRACTION_DIGITS_MAX) {
            return None;
        }
        let zero = |byte: &&u8| **byte == b'0';
        let whole = &whole[whole.iter().take_while(zero).count()..];
        let fraction = fraction.unwrap_or_default();
        let fraction = &fraction[..fraction.len() - fraction.iter().rev().take_while(zero).count()];
        Some(Self { negative: negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction })
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Without leading zeros, the number with more digits is larger. Fractions compare as text: they end in no zero.
        let size = |number: &Self| (number.whole.len(), number.whole, number.fraction);
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => size(self).cmp(&size(other)),
            (true, true) => size(other).cmp(&size(self)),
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Decimal<'_> {
        Decimal::parse(text).unwrap_or_else(|| panic!("not a number: {text}"))
    }

    #[test]
    fn decimals_compare_by_value() {
        let big = "9".repeat(150);
        let rising = [
            &format!("-{big}")[..],
            "-20",
            "-3.5",
            "-3.05",
            "-0.0000000000000000001",
            "0",
            "0.0000000000000000001",
            "0.09",
            "0.1",
            "3",
            "3.05",
            "3.5",
            "3.51",
            "10",
            "18446744073709551616",
            "18446744073709551616.5",
            &big,
        ];
        for (place, low) in rising.iter().enumerate() {
            for (other, high) in rising.iter().enumerate() {
                assert_eq!(parsed(low).cmp(&parsed(high)), place.cmp(&other), "{low} {high}");
            }
        }
    }

    #[test]
    fn decimals_ignore_leading_and_trailing_zeros() {
        for (a, b) in [("1", "1.0"), ("+1", "1"), ("007", "7.000"), ("-0", "0"), ("-0.00", "+0"), ("0.50", "00.5")] {
            assert_eq!(parsed(a), parsed(b));
            assert_eq!(parsed(a).cmp(&parsed(b)), Ordering::Equal);
        }
    }

    #[test]
    fn decimals_reject_other_texts() {
        let long = "1".repeat(201);
        let fine = format!("1.{}", "1".repeat(19));
        assert!(Decimal::parse(&fine).is_some() && Decimal::parse(&long[1..]).is_some());
        let too_fine = format!("1.{}", "0".repeat(20));
        for text in [
            "", "+", "-", ".", ".5", "-.5", "5.", "1.2.3", "1..2", "--1", "+-1", "1e3", "0x10", " 1", "1 ", "1_000",
            "1,5", "NaN", "inf", "٣", &long, &too_fine,
        ] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }
}
