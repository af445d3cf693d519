//! Axes: from a value to a position, and the ticks of an axis; units of figures.

/// A linear or logarithmic axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub from: f64,
    pub to: f64,
    pub log: bool,
}

impl Scale {
    /// From 0 to a round number above `max`, with about five steps.
    pub fn from_zero(max: f64) -> Self {
        let max = if max > 0.0 && max.is_finite() { max } else { 1.0 };
        let step = step(max * 1.02, 5);
        Self { from: 0.0, to: (max * 1.02 / step).ceil() * step, log: false }
    }

    pub fn linear(from: f64, to: f64) -> Self {
        Self { from, to: if to > from { to } else { from + 1.0 }, log: false }
    }

    /// From the next 1, 2 or 5 of a power of ten below `min` to that above `max`.
    pub fn logarithmic(min: f64, max: f64) -> Self {
        let min = if min > 0.0 { min } else { 1.0 };
        let (from, to) = (neighbor(min, false), neighbor(max.max(min), true));
        Self { from, to: if to > from { to } else { from * 10.0 }, log: true }
    }

    /// 0 is the beginning, 1 the end; values outside are clamped.
    pub fn position(&self, value: f64) -> f64 {
        let position = if self.log {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        if position.is_finite() { position.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// About `wanted` values for ticks.
    pub fn ticks(&self, wanted: usize) -> Vec<f64> {
        if !self.log {
            let step = step(self.to - self.from, wanted);
            let first = (self.from / step).ceil() as i64;
            let ticks = (first..).map(|i| i as f64 * step);
            return ticks.take_while(|tick| *tick <= self.to + step * 1e-6).collect();
        }
        let decades = (self.to / self.from).log10();
        let within = |tick: &f64| *tick >= self.from * 0.999 && *tick <= self.to * 1.001;
        let digits: &[f64] = if decades * 3.0 <= wanted as f64 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = (decades / wanted as f64).ceil().max(1.0) as usize;
        let (low, high) = (self.from.log10().floor() as i32, self.to.log10().ceil() as i32);
        let powers = (low..=high).step_by(every).map(|power| 10f64.powi(power));
        powers.flat_map(|power| digits.iter().map(move |digit| digit * power)).filter(within).collect()
    }
}

/// The powers of ten around `value`, times 1, 2, 5 and 10.
fn round_numbers(value: f64) -> [f64; 4] {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power)
}

/// The smallest round number that divides `span` into at most `parts`.
fn step(span: f64, parts: usize) -> f64 {
    let raw = span / parts.max(1) as f64;
    let steps = round_numbers(raw);
    steps.into_iter().find(|step| *step >= raw * 0.999).unwrap_or(steps[0])
}

/// The round number next to `value`, above or below it.
fn neighbor(value: f64, above: bool) -> f64 {
    let steps = round_numbers(value).into_iter();
    let found = if above {
        steps.into_iter().find(|step| *step >= value * 0.9999)
    } else {
        steps.rev().find(|step| *step <= value * 1.0001)
    };
    found.unwrap_or(value)
}

/// The unit of a figure: a divisor and a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    pub divisor: f64,
    pub name: &'static str,
}

/// For microseconds up to `max`.
pub fn time_unit(max: f64) -> Unit {
    let (divisor, name) = match max {
        us if us >= 5e6 => (1e6, "s"),
        us if us >= 5e3 => (1e3, "ms"),
        _ => (1.0, "µs"),
    };
    Unit { divisor, name }
}

/// For bytes up to `max`.
pub fn byte_unit(max: f64) -> Unit {
    let (gib, mib) = (f64::from(1 << 30), f64::from(1 << 20));
    let (divisor, name) = match max {
        bytes if bytes >= 4.0 * gib => (gib, "GiB"),
        bytes if bytes >= mib => (mib, "MiB"),
        _ => (1024.0, "KiB"),
    };
    Unit { divisor, name }
}

/// The label of a tick: no more digits than needed, with k, M or G for thousands.
pub fn short(value: f64) -> String {
    let (value, suffix) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, " G"),
        v if v >= 1e6 => (value / 1e6, " M"),
        v if v >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let text = format!("{value:.3}");
    format!("{}{suffix}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// One in so many that are slower, as the share of those that are not: 100 becomes 99 %.
pub fn share(one_in: f64) -> String {
    match one_in.log10().round() as usize {
        0 => "0 %".into(),
        1 => "90 %".into(),
        2 => "99 %".into(),
        nines => format!("99.{} %", "9".repeat(nines - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_few_round_numbers_within_the_axis() {
        for most in [0.0, 0.013, 1.0, 7.3, 99.0, 123_456.0, 8e12] {
            let scale = Scale::from_zero(most);
            let ticks = scale.ticks(5);
            assert!((3..=7).contains(&ticks.len()), "{most}: {ticks:?}");
            assert!(
                ticks[0] == 0.0 && (ticks[ticks.len() - 1] - scale.to).abs() < scale.to * 1e-9,
                "{most}: {ticks:?}"
            );
            assert!(scale.to >= most);
        }
        assert_eq!(Scale::linear(0.0, 10.0).ticks(5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    }

    #[test]
    fn logarithmic_axis_gives_each_power_of_ten_the_same_length() {
        let scale = Scale::logarithmic(1.0, 1000.0);
        let places: Vec<_> = [1.0, 10.0, 100.0, 1000.0].iter().map(|v| (scale.position(*v) * 3.0).round()).collect();
        assert_eq!(places, [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(scale.ticks(4), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(Scale::logarithmic(30.0, 180.0), Scale { from: 20.0, to: 200.0, log: true });
        assert_eq!(Scale::logarithmic(20.0, 200.0).ticks(5), [20.0, 50.0, 100.0, 200.0]);
    }

    #[test]
    fn values_outside_the_axis_are_clamped() {
        for scale in [Scale::linear(0.0, 10.0), Scale::logarithmic(1.0, 10.0), Scale::from_zero(f64::NAN)] {
            for value in [-1e300, 0.0, 5.0, 1e300, f64::NAN, f64::INFINITY] {
                assert!((0.0..=1.0).contains(&scale.position(value)), "{scale:?} {value}");
            }
        }
    }

    #[test]
    fn tick_labels_are_short() {
        let pairs = [(0.0, "0"), (0.25, "0.25"), (2500.0, "2500"), (50_000.0, "50 k"), (1.5e6, "1.5 M")];
        pairs.iter().for_each(|(value, text)| assert_eq!(short(*value), *text));
        assert_eq!([1.0, 10.0, 100.0, 1000.0, 1e5].map(share), ["0 %", "90 %", "99 %", "99.9 %", "99.999 %"]);
        assert_eq!([900.0, 80_000.0, 9e6].map(|us| time_unit(us).name), ["µs", "ms", "s"]);
    }
}
