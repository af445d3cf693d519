//! One plot as SVG: axes with ticks and units, shaded phases, bands and lines.
//!
//! Colors are classes (`c1`…`c6`), which the style sheet defines for light and dark screens. A plot is drawn twice, for wide and
//! narrow screens, because the letters of a scaled drawing would be too small. The legend is text next to it, which wraps.

use super::html::escape;
use super::scale::Scale;
use std::fmt::Write;

/// Values, with gaps.
pub type Points = Vec<(f64, Option<f64>)>;

/// The largest value.
pub fn max<'a>(points: impl IntoIterator<Item = &'a Points>) -> f64 {
    points.into_iter().flatten().filter_map(|(_, y)| *y).fold(0.0, f64::max)
}

#[derive(Clone, Debug)]
pub struct Line {
    pub label: String,
    /// The class with the color.
    pub class: &'static str,
    pub points: Points,
    /// The lower edge, if this is a band.
    pub under: Option<Points>,
}

#[derive(Clone, Debug)]
pub struct Plot {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub x: Scale,
    pub y: Scale,
    pub x_text: fn(f64) -> String,
    pub y_text: fn(f64) -> String,
    pub lines: Vec<Line>,
    /// Named parts of the x axis that do not count.
    pub shades: Vec<(f64, f64, String)>,
    /// A remark under the title.
    pub note: String,
}

/// The outer size of a drawing, and its margins.
#[derive(Clone, Copy, Debug)]
struct Frame {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
}

const WIDE: Frame = Frame { width: 560.0, height: 270.0, left: 58.0, right: 16.0 };
const NARROW: Frame = Frame { width: 336.0, height: 240.0, left: 50.0, right: 12.0 };
const TOP: f64 = 26.0;
const BOTTOM: f64 = 42.0;
/// Up to so many points have dots: a single one would not be visible as a line.
const DOTS_MAX: usize = 24;
/// Pixels below which a shade would look like a line.
const SHADE_MIN: f64 = 4.0;
/// The approximate width of a letter in pixels.
const LETTER: f64 = 6.4;

fn width(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}

/// A text element.
fn text(out: &mut String, class: &str, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = escape(text);
    let _ = write!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

impl Frame {
    fn x(&self, position: f64) -> f64 {
        self.left + position * (self.width - self.left - self.right)
    }

    fn y(&self, position: f64) -> f64 {
        self.height - BOTTOM - position * (self.height - TOP - BOTTOM)
    }
}

impl Plot {
    /// A card with title, legend and the drawing.
    pub fn card(&self) -> String {
        let entry = |line: &Line| {
            let form = if line.under.is_some() { "band" } else { "line" };
            format!("<li><i class=\"{form} {}\"></i>{}</li>", line.class, escape(&line.label))
        };
        let legend: String = self.lines.iter().map(entry).collect();
        let note = if self.note.is_empty() { String::new() } else { format!("<p>{}</p>", escape(&self.note)) };
        format!(
            "<figure class=\"card\"><figcaption><h3>{}</h3>{note}<ul class=\"legend\">{legend}</ul></figcaption>{}{}</figure>\n",
            escape(&self.title),
            self.svg(WIDE, "wide"),
            self.svg(NARROW, "narrow"),
        )
    }

    fn svg(&self, frame: Frame, class: &str) -> String {
        let Frame { width, height, .. } = frame;
        let title = escape(&self.title);
        let mut out =
            format!("<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">");
        self.shades(&mut out, frame);
        self.axes(&mut out, frame);
        for line in &self.lines {
            match &line.under {
                Some(under) => self.band(&mut out, frame, line, under),
                None => self.line(&mut out, frame, line),
            }
        }
        out + "</svg>"
    }

    fn shades(&self, out: &mut String, frame: Frame) {
        let (top, high) = (frame.y(1.0), frame.y(0.0) - frame.y(1.0));
        for (from, to, name) in &self.shades {
            let left = frame.x(self.x.position(*from));
            let wide = frame.x(self.x.position(*to)) - left;
            if wide < SHADE_MIN {
                continue;
            }
            let _ = write!(
                out,
                "<rect class=\"shade\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\"/>"
            );
            if wide > width(name) + 8.0 {
                text(out, "phase", (left + wide / 2.0, top + 13.0), "middle", name);
            }
        }
    }

    fn axes(&self, out: &mut String, frame: Frame) {
        let (left, right, bottom) = (frame.x(0.0), frame.x(1.0), frame.y(0.0));
        for tick in self.y.ticks(5) {
            let y = frame.y(self.y.position(tick));
            let _ = write!(out, "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
            text(out, "tick", (left - 6.0, y + 4.0), "end", &(self.y_text)(tick));
        }
        let mut free_from = f64::MIN;
        for tick in self.x.ticks(if frame.width < 400.0 { 5 } else { 8 }) {
            let (x, label) = (frame.x(self.x.position(tick)), (self.x_text)(tick));
            let _ = write!(out, "<path class=\"axis\" d=\"M{x:.1} {bottom:.1}v4\"/>");
            // A label that would touch the one before it is left out.
            let half = width(&label) / 2.0;
            if x - half < free_from {
                continue;
            }
            free_from = x + half + 6.0;
            // The last label must not be cut off at the edge.
            let (anchor, x) = if x + half > frame.width { ("end", frame.width - 1.0) } else { ("middle", x) };
            text(out, "tick", (x, bottom + 17.0), anchor, &label);
        }
        let _ = write!(out, "<path class=\"axis\" d=\"M{left:.1} {bottom:.1}H{right:.1}\"/>");
        text(out, "label", ((left + right) / 2.0, frame.height - 8.0), "middle", &self.x_label);
        text(out, "label", (2.0, 13.0), "start", &self.y_label);
    }

    fn at(&self, frame: Frame, x: f64, y: f64) -> (f64, f64) {
        (frame.x(self.x.position(x)), frame.y(self.y.position(y)))
    }

    fn line(&self, out: &mut String, frame: Frame, line: &Line) {
        let (mut path, mut dots, mut pen) = (String::new(), String::new(), 'M');
        for (x, y) in &line.points {
            let Some(y) = y else {
                pen = 'M';
                continue;
            };
            let (x, y) = self.at(frame, *x, *y);
            let _ = write!(path, "{pen}{x:.1} {y:.1}");
            if line.points.len() <= DOTS_MAX {
                let _ = write!(dots, "<circle class=\"dot {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.2\"/>", line.class);
            }
            pen = 'L';
        }
        if !path.is_empty() {
            let _ = write!(out, "<path class=\"stroke {}\" d=\"{path}\"/>{dots}", line.class);
        }
    }

    /// The area between two lines, in pieces between the gaps of either.
    fn band(&self, out: &mut String, frame: Frame, line: &Line, under: &Points) {
        let points: Vec<_> = line.points.iter().zip(under).map(|((x, high), (_, low))| (*x, high.zip(*low))).collect();
        for piece in points.split(|(_, pair)| pair.is_none()).filter(|piece| piece.len() > 1) {
            let corner = |x: f64, y: f64| {
                let (x, y) = self.at(frame, x, y);
                format!("{x:.1} {y:.1}")
            };
            let upper = piece.iter().filter_map(|(x, pair)| pair.map(|(high, _)| corner(*x, high)));
            let lower = piece.iter().rev().filter_map(|(x, pair)| pair.map(|(_, low)| corner(*x, low)));
            let corners: Vec<_> = upper.chain(lower).collect();
            let _ = write!(out, "<path class=\"fill {}\" d=\"M{}Z\"/>", line.class, corners.join("L"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scale::short;

    fn plot(points: Points) -> Plot {
        let line = Line { label: "a <b>".into(), class: "c1", points, under: None };
        let (x, y) = (Scale::linear(0.0, 10.0), Scale::from_zero(100.0));
        let shades = vec![(0.0, 5.0, "warm-up".to_string()), (5.0, 5.05, "x".into())];
        Plot {
            title: "t & u".into(),
            x_label: "seconds".into(),
            y_label: "µs".into(),
            x,
            y,
            x_text: short,
            y_text: short,
            lines: vec![line],
            shades,
            note: String::new(),
        }
    }

    #[test]
    fn gap_breaks_the_line_and_values_stay_inside() {
        let svg = plot(vec![(0.0, Some(0.0)), (5.0, None), (10.0, Some(1e9))]).svg(WIDE, "wide");
        let path = svg.split("class=\"stroke c1\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(path, "M58.0 228.0M544.0 26.0");
        assert_eq!(svg.matches("class=\"shade\"").count(), 1, "a narrow one is left out: {svg}");
    }

    #[test]
    fn text_is_escaped_and_each_screen_width_has_a_drawing() {
        let card = plot(vec![(1.0, Some(1.0))]).card();
        assert!(card.contains("t &amp; u") && card.contains("a &lt;b&gt;") && !card.contains("<b>"));
        assert!(card.contains("class=\"wide\"") && card.contains("class=\"narrow\""));
        assert!(card.contains("<circle"), "a single value is visible");
    }

    #[test]
    fn gap_splits_a_band() {
        let mut plot = plot(Vec::new());
        let points = |y: f64| [0.0, 1.0, 2.0, 3.0, 4.0].map(|x| (x, (x != 2.0).then_some(y))).to_vec();
        plot.lines[0] = Line { label: "b".into(), class: "c2", points: points(9.0), under: Some(points(1.0)) };
        assert_eq!(plot.svg(NARROW, "narrow").matches("class=\"fill c2\"").count(), 2);
    }
}
