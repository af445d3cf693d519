//! Axes: from a value to a place, and which values are written beside an axis.

/// Linear, or by powers of ten.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub from: f64,
    pub to: f64,
    pub log: bool,
}

impl Scale {
    /// From nothing up to a round number that all values stay under, with about `ticks` steps.
    pub fn from_zero(most: f64, ticks: usize) -> Self {
        let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
        let step = step(most * 1.02, ticks);
        Self { from: 0.0, to: (most * 1.02 / step).ceil() * step, log: false }
    }

    pub fn linear(from: f64, to: f64) -> Self {
        Self { from, to: if to > from { to } else { from + 1.0 }, log: false }
    }

    /// Over all positive values of them, to the next 1, 2 or 5 of a power of ten at both ends.
    pub fn logarithmic(least: f64, most: f64) -> Self {
        let least = if least > 0.0 { least } else { 1.0 };
        let (from, to) = (neighbour(least, false), neighbour(most.max(least), true));
        Self { from, to: if to > from { to } else { from * 10.0 }, log: true }
    }

    /// 0 is the beginning, 1 the end; what lies outside is put to the nearest of them.
    pub fn place(&self, value: f64) -> f64 {
        let place = if self.log {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Values to be written, about `wanted` of them.
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

/// The 1, 2 or 5 of a power of ten that divides `span` into at most `parts`.
fn step(span: f64, parts: usize) -> f64 {
    let raw = span / parts.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|step| *step >= raw * 0.999).unwrap_or(power)
}

/// The 1, 2 or 5 of a power of ten next to `value`, above or below it.
fn neighbour(value: f64, above: bool) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
    if above {
        steps.into_iter().find(|step| *step >= value * 0.9999).unwrap_or(value)
    } else {
        steps.into_iter().rev().find(|step| *step <= value * 1.0001).unwrap_or(value)
    }
}

/// What a number is written in: a divisor and the unit's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    pub divisor: f64,
    pub name: &'static str,
}

/// For microseconds of which `most` is the largest.
pub fn time_unit(most: f64) -> Unit {
    let (divisor, name) = match most {
        us if us >= 5e6 => (1e6, "s"),
        us if us >= 5e3 => (1e3, "ms"),
        _ => (1.0, "µs"),
    };
    Unit { divisor, name }
}

/// For bytes of which `most` is the largest.
pub fn byte_unit(most: f64) -> Unit {
    let (divisor, name) = match most {
        bytes if bytes >= 4.0 * f64::from(1 << 30) => (f64::from(1 << 30), "GiB"),
        bytes if bytes >= f64::from(1 << 20) => (f64::from(1 << 20), "MiB"),
        _ => (1024.0, "KiB"),
    };
    Unit { divisor, name }
}

/// A tick's text: no more digits than tell it from its neighbours, and k, M or G for thousands.
pub fn short(value: f64) -> String {
    let (value, suffix) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, " G"),
        v if v >= 1e6 => (value / 1e6, " M"),
        v if v >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let text = format!("{value:.3}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

/// One in so many that are slower, as the share of those that are not: 100 is 99 %.
pub fn share(one_in: f64) -> String {
    let decades = one_in.log10().round() as usize;
    match decades {
        0 => "0 %".into(),
        1 => "90 %".into(),
        2 => "99 %".into(),
        more => format!("99.{} %", "9".repeat(more - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_few_and_within() {
        for most in [0.0, 0.013, 1.0, 7.3, 99.0, 123_456.0, 8e12] {
            let scale = Scale::from_zero(most, 5);
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
    fn a_logarithmic_axis_gives_each_power_the_same_room() {
        let scale = Scale::logarithmic(1.0, 1000.0);
        let places: Vec<_> = [1.0, 10.0, 100.0, 1000.0].iter().map(|v| (scale.place(*v) * 3.0).round()).collect();
        assert_eq!(places, [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(scale.ticks(4), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(Scale::logarithmic(30.0, 180.0), Scale { from: 20.0, to: 200.0, log: true });
        assert_eq!(Scale::logarithmic(20.0, 200.0).ticks(5), [20.0, 50.0, 100.0, 200.0]);
    }

    #[test]
    fn nothing_leaves_the_plot() {
        for scale in [Scale::linear(0.0, 10.0), Scale::logarithmic(1.0, 10.0), Scale::from_zero(f64::NAN, 5)] {
            for value in [-1e300, 0.0, 5.0, 1e300, f64::NAN, f64::INFINITY] {
                assert!((0.0..=1.0).contains(&scale.place(value)), "{scale:?} {value}");
            }
        }
    }

    #[test]
    fn numbers_beside_axes_are_short() {
        let pairs = [(0.0, "0"), (0.25, "0.25"), (2500.0, "2500"), (50_000.0, "50 k"), (1.5e6, "1.5 M")];
        pairs.iter().for_each(|(value, text)| assert_eq!(short(*value), *text));
        assert_eq!([1.0, 10.0, 100.0, 1000.0, 1e5].map(share), ["0 %", "90 %", "99 %", "99.9 %", "99.999 %"]);
        assert_eq!([900.0, 80_000.0, 9e6].map(|us| time_unit(us).name), ["µs", "ms", "s"]);
    }
}
