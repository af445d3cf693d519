//! One plot as SVG: lines over a linear or logarithmic axis, with ticks, units and shaded phases.
//!
//! Colors are classes (`c1`…`c6`), which the style sheet defines for light and dark screens. The legend is text beside the plot.

use super::figures::{Quantity, escape, share, short};
use std::fmt::Write;

/// Values, with gaps.
pub type Points = Vec<(f64, Option<f64>)>;

/// From this ratio of the largest latency to the lower quartile on, its axis is logarithmic.
const LOG_FROM: f64 = 25.0;
const COLORS: [&str; 6] = ["c1", "c2", "c3", "c4", "c5", "c6"];
const TICKS: f64 = 6.0;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = WIDTH - 16.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = HEIGHT - 42.0;

#[derive(Clone, Debug)]
pub struct Axis {
    pub label: String,
    from: f64,
    to: f64,
    is_log: bool,
    text: fn(f64) -> String,
}

impl Axis {
    pub fn linear(label: &str, from: f64, to: f64) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        Self { label: label.into(), from, to, is_log: false, text: short }
    }

    /// Of the percentiles: each power of ten to the right is ten times rarer.
    pub fn rarity(rarest: f64) -> Self {
        let label = "share that is not slower".into();
        Self { label, from: 1.0, to: rarest.max(10.0), is_log: true, text: share }
    }

    /// For values of which `sorted` are all above 0: latencies that differ widely get a logarithmic axis between powers of ten.
    fn of(quantity: Quantity, unit: &str, sorted: &[f64]) -> Self {
        let (low, quarter, max) = (sorted[0], sorted[sorted.len() / 4], sorted[sorted.len() - 1]);
        if matches!(quantity, Quantity::Micros) && max > quarter * LOG_FROM {
            let [from, to] = [low.log10().floor(), max.log10().ceil()].map(|power| 10f64.powf(power));
            return Self { label: format!("{unit}, logarithmic"), from, to, is_log: true, text: short };
        }
        let step = step(max * 1.02);
        Self::linear(unit, 0.0, (max * 1.02 / step).ceil() * step)
    }

    /// 0 is the beginning, 1 the end; values outside are clamped.
    fn position(&self, value: f64) -> f64 {
        let position = if self.is_log {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        if position.is_finite() { position.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Round values: powers of ten, or multiples of a round step.
    fn ticks(&self) -> Vec<f64> {
        if self.is_log {
            let [low, high] = [self.from, self.to].map(|value| (value.log10() + 1e-9).floor() as i32);
            let every = (f64::from(high - low) / TICKS).ceil().max(1.0) as usize;
            return (low..=high).step_by(every).map(|power| 10f64.powi(power)).collect();
        }
        let step = step(self.to - self.from);
        let ticks = ((self.from / step).ceil() as i64..).map(|i| i as f64 * step);
        ticks.take_while(|tick| *tick <= self.to + step * 1e-6).collect()
    }
}

/// The smallest of 1, 2, 5 and 10 times a power of ten that divides `span` into few parts.
fn step(span: f64) -> f64 {
    let raw = span / TICKS;
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(|step| *step >= raw * 0.999).unwrap_or(power * 10.0)
}

#[derive(Clone, Debug)]
pub struct Plot {
    title: String,
    x: Axis,
    y: Axis,
    /// Labels and values, each with a color of its own.
    pub lines: Vec<(String, Points)>,
    /// Named parts of the x axis that do not count.
    pub shades: Vec<(f64, f64, &'static str)>,
}

impl Plot {
    /// The lines that have a value above 0, in the unit that fits the largest; `None` without any.
    pub fn new(title: &str, x: Axis, quantity: Quantity, mut lines: Vec<(String, Points)>) -> Option<Self> {
        lines.retain(|(_, points)| points.iter().any(|(_, y)| y.is_some_and(|y| y > 0.0)));
        lines.truncate(COLORS.len());
        let values = |lines: &[(String, Points)]| {
            let all = lines.iter().flat_map(|(_, points)| points).filter_map(|(_, y)| *y);
            all.filter(|y| *y > 0.0).collect::<Vec<f64>>()
        };
        let (divisor, unit) = quantity.unit(values(&lines).into_iter().fold(0.0, f64::max));
        let all = lines.iter_mut().flat_map(|(_, points)| points).filter_map(|(_, y)| y.as_mut());
        all.for_each(|y| *y /= divisor);
        let mut sorted = values(&lines);
        sorted.sort_by(f64::total_cmp);
        let is_empty = sorted.is_empty();
        (!is_empty).then(|| Self {
            title: title.into(),
            x,
            y: Axis::of(quantity, unit, &sorted),
            lines,
            shades: vec![],
        })
    }

    /// A card with title, legend and the drawing.
    pub fn card(&self) -> String {
        let title = escape(&self.title);
        let (mut legend, mut svg) = (String::new(), self.frame());
        for ((label, points), color) in self.lines.iter().zip(COLORS) {
            let _ = write!(legend, "<li><i class=\"{color}\"></i>{}</li>", escape(label));
            let _ = write!(svg, "<path class=\"stroke {color}\" d=\"{}\"/>", self.path(points));
        }
        format!(
            "<figure class=\"card\"><figcaption><h3>{title}</h3><ul class=\"legend\">{legend}</ul></figcaption>\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">{svg}</svg></figure>\n"
        )
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.position(value) * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - self.y.position(value) * (BOTTOM - TOP)
    }

    /// Shades, axes and their labels.
    fn frame(&self) -> String {
        let mut out = String::new();
        let text = |x: f64, y: f64, anchor: &str, text: &str| {
            format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(text))
        };
        for (from, to, name) in &self.shades {
            let (left, wide) = (self.x(*from), self.x(*to) - self.x(*from));
            let high = BOTTOM - TOP;
            out +=
                &format!("<rect class=\"shade\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{wide:.1}\" height=\"{high}\"/>");
            if wide > 50.0 {
                out += &text(left + wide / 2.0, TOP + 13.0, "middle", name);
            }
        }
        for tick in self.y.ticks() {
            let y = self.y(tick);
            out += &format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
            out += &text(LEFT - 6.0, y + 4.0, "end", &(self.y.text)(tick));
        }
        for tick in self.x.ticks() {
            out += &format!("<path class=\"axis\" d=\"M{:.1} {BOTTOM}v4\"/>", self.x(tick));
            out += &text(self.x(tick), BOTTOM + 17.0, "middle", &(self.x.text)(tick));
        }
        out += &format!("<path class=\"axis\" d=\"M{LEFT} {BOTTOM}H{RIGHT}\"/>");
        out + &text((LEFT + RIGHT) / 2.0, HEIGHT - 8.0, "middle", &self.x.label)
            + &text(2.0, 13.0, "start", &self.y.label)
    }

    /// A gap begins a new line; a single value is a dot.
    fn path(&self, points: &Points) -> String {
        let (mut path, mut is_drawing) = (String::new(), false);
        for (x, y) in points {
            if let Some(y) = y {
                let (pen, dot) = if is_drawing { ('L', "") } else { ('M', "h0") };
                let _ = write!(path, "{pen}{:.1} {:.1}{dot}", self.x(*x), self.y(*y));
            }
            is_drawing = y.is_some();
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Points) -> Plot {
        let x = Axis::linear("seconds", 0.0, 10.0);
        let mut plot = Plot::new("t & u", x, Quantity::Count("µs"), vec![("a <b>".into(), points)]).unwrap();
        plot.shades = vec![(0.0, 5.0, "warm-up"), (5.0, 5.05, "x")];
        plot
    }

    #[test]
    fn ticks_are_few_round_numbers_within_the_axis() {
        for most in [0.013, 1.0, 7.3, 99.0, 123_456.0, 8e12] {
            let axis = Axis::of(Quantity::Count(""), "", &[most]);
            let ticks = axis.ticks();
            assert!((3..=8).contains(&ticks.len()), "{most}: {ticks:?}");
            assert!(ticks[0] == 0.0 && (ticks[ticks.len() - 1] - axis.to).abs() < axis.to * 1e-9, "{most}: {ticks:?}");
            assert!(axis.to >= most);
        }
        assert_eq!(Axis::linear("", 0.0, 10.0).ticks(), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    }

    #[test]
    fn a_logarithmic_axis_gives_each_power_of_ten_the_same_length() {
        let axis = Axis::of(Quantity::Micros, "µs", &[2.0, 2.0, 3.0, 900.0]);
        let places: Vec<_> = [1.0, 10.0, 100.0, 1000.0].iter().map(|v| (axis.position(*v) * 3.0).round()).collect();
        assert_eq!(places, [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(axis.ticks(), [1.0, 10.0, 100.0, 1000.0]);
    }

    #[test]
    fn values_outside_the_axis_are_clamped() {
        for axis in [Axis::linear("", 0.0, 10.0), Axis::rarity(10.0)] {
            for value in [-1e300, 0.0, 5.0, 1e300, f64::NAN, f64::INFINITY] {
                assert!((0.0..=1.0).contains(&axis.position(value)), "{axis:?} {value}");
            }
        }
    }

    #[test]
    fn a_gap_breaks_the_line_and_text_is_escaped() {
        let plot = plot(vec![(0.0, Some(0.0)), (5.0, None), (20.0, Some(1e3))]);
        let card = plot.card();
        let path = card.split("class=\"stroke c1\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(path.starts_with("M58.0 228.0h0M544.0 ") && path.ends_with("h0"), "a dot for each: {path}");
        assert!(card.contains("t &amp; u") && card.contains("a &lt;b&gt;") && !card.contains("<b>"));
        assert_eq!(card.matches("warm-up").count(), 1);
        assert!(!card.contains(">x<"), "a narrow shade has no name");
    }
}
