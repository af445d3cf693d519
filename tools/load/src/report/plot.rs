//! One plot as SVG, drawn by hand: axes with ticks and units, shaded phases, bands and lines.
//!
//! Colours are classes (`c1`…`c6`), so that the page's style gives them for light and dark. A plot is drawn twice, for wide and narrow
//! screens: scaling one drawing would make its letters too small on the other. The legend is text beside it, which wraps by itself.

use super::html::escape;
use super::scale::Scale;
use std::fmt::Write;

/// A point's value, or a gap.
pub type Points = Vec<(f64, Option<f64>)>;

#[derive(Clone, Debug)]
pub struct Line {
    pub label: String,
    /// The class that says the colour.
    pub class: &'static str,
    pub points: Points,
    /// The lower edge, if this is a band and not a line.
    pub under: Option<Points>,
}

#[derive(Clone, Debug)]
pub struct Plot {
    pub title: String,
    /// What the axes mean, units with them.
    pub x_label: String,
    pub y_label: String,
    pub x: Scale,
    pub y: Scale,
    pub x_text: fn(f64) -> String,
    pub y_text: fn(f64) -> String,
    pub lines: Vec<Line>,
    /// Parts of the x axis that do not count, with their names.
    pub shades: Vec<(f64, f64, String)>,
    /// Said under the title.
    pub note: String,
}

/// Outer size, and what the axes leave free on each side.
#[derive(Clone, Copy, Debug)]
struct Frame {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

const WIDE: Frame = Frame { width: 560.0, height: 270.0, left: 58.0, right: 16.0, top: 26.0, bottom: 42.0 };
const NARROW: Frame = Frame { width: 336.0, height: 240.0, left: 50.0, right: 12.0, top: 26.0, bottom: 42.0 };
/// Up to so many points each has a dot: a single one would not be seen as a line.
const DOTS_MAX: usize = 24;
/// Pixels below which a shaded part would look like a line.
const SHADE_MIN: f64 = 4.0;
/// Pixels that a letter of a label takes, about.
const LETTER: f64 = 6.4;

impl Frame {
    fn x(&self, place: f64) -> f64 {
        self.left + place * (self.width - self.left - self.right)
    }

    fn y(&self, place: f64) -> f64 {
        self.height - self.bottom - place * (self.height - self.top - self.bottom)
    }
}

impl Plot {
    /// A card with title, legend and the drawing.
    pub fn card(&self) -> String {
        let mut legend = String::new();
        for line in &self.lines {
            let form = if line.under.is_some() { "band" } else { "line" };
            let _ = write!(legend, "<li><i class=\"{form} {}\"></i>{}</li>", line.class, escape(&line.label));
        }
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
        let mut out = format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        );
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
        let (top, bottom) = (frame.y(1.0), frame.y(0.0));
        for (from, to, name) in &self.shades {
            let (left, right) = (frame.x(self.x.place(*from)), frame.x(self.x.place(*to)));
            let (wide, high) = (right - left, bottom - top);
            if wide < SHADE_MIN {
                continue;
            }
            let _ = write!(
                out,
                "<rect class=\"shade\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\"/>"
            );
            if wide > name.chars().count() as f64 * LETTER + 8.0 {
                let (x, y) = (left + wide / 2.0, top + 13.0);
                let name = escape(name);
                let _ =
                    write!(out, "<text class=\"phase\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{name}</text>");
            }
        }
    }

    fn axes(&self, out: &mut String, frame: Frame) {
        let (left, right, bottom) = (frame.x(0.0), frame.x(1.0), frame.y(0.0));
        for tick in self.y.ticks(5) {
            let y = frame.y(self.y.place(tick));
            let text = escape(&(self.y_text)(tick));
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                left - 6.0,
                y + 4.0
            );
        }
        let mut free_from = f64::MIN;
        for tick in self.x.ticks(if frame.width < 400.0 { 5 } else { 8 }) {
            let (x, text) = (frame.x(self.x.place(tick)), (self.x_text)(tick));
            let _ = write!(out, "<path class=\"axis\" d=\"M{x:.1} {bottom:.1}v4\"/>");
            // One that would touch the one before it is left out.
            let half = text.chars().count() as f64 * LETTER / 2.0;
            if x - half < free_from {
                continue;
            }
            free_from = x + half + 6.0;
            // The last one must not be cut off at the edge.
            let (anchor, x) = if x + half > frame.width { ("end", frame.width - 1.0) } else { ("middle", x) };
            let (y, text) = (bottom + 17.0, escape(&text));
            let _ =
                write!(out, "<text class=\"tick\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
        }
        let (middle, low) = ((left + right) / 2.0, frame.height - 8.0);
        let _ = write!(
            out,
            "<path class=\"axis\" d=\"M{left:.1} {bottom:.1}H{right:.1}\"/>\
             <text class=\"label\" x=\"{middle:.1}\" y=\"{low:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"label\" x=\"2\" y=\"13\">{}</text>",
            escape(&self.x_label),
            escape(&self.y_label)
        );
    }

    fn at(&self, frame: Frame, x: f64, y: f64) -> (f64, f64) {
        (frame.x(self.x.place(x)), frame.y(self.y.place(y)))
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

    /// Between two lines, in pieces where either has a gap.
    fn band(&self, out: &mut String, frame: Frame, line: &Line, under: &Points) {
        let mut piece: Vec<(f64, f64, f64)> = Vec::new();
        let mut pieces = Vec::new();
        for ((x, high), (_, low)) in line.points.iter().zip(under) {
            match (high, low) {
                (Some(high), Some(low)) => piece.push((*x, *high, *low)),
                _ => pieces.push(std::mem::take(&mut piece)),
            }
        }
        pieces.push(piece);
        for piece in pieces.iter().filter(|piece| piece.len() > 1) {
            let there = piece.iter().map(|(x, high, _)| self.at(frame, *x, *high));
            let back = piece.iter().rev().map(|(x, _, low)| self.at(frame, *x, *low));
            let corners: Vec<_> = there.chain(back).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
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
        let (x, y) = (Scale::linear(0.0, 10.0), Scale::from_zero(100.0, 5));
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
    fn a_gap_breaks_the_line_and_values_stay_inside() {
        let svg = plot(vec![(0.0, Some(0.0)), (5.0, None), (10.0, Some(1e9))]).svg(WIDE, "wide");
        let path = svg.split("class=\"stroke c1\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(path, "M58.0 228.0M544.0 26.0");
        assert_eq!(svg.matches("class=\"shade\"").count(), 1, "one too narrow is left out: {svg}");
    }

    #[test]
    fn text_is_escaped_and_each_screen_has_its_drawing() {
        let card = plot(vec![(1.0, Some(1.0))]).card();
        assert!(card.contains("t &amp; u") && card.contains("a &lt;b&gt;") && !card.contains("<b>"));
        assert!(card.contains("class=\"wide\"") && card.contains("class=\"narrow\""));
        assert!(card.contains("<circle"), "a single value is seen");
    }

    #[test]
    fn a_band_has_as_many_pieces_as_gaps_leave() {
        let mut plot = plot(Vec::new());
        let points = |y: f64| [0.0, 1.0, 2.0, 3.0, 4.0].map(|x| (x, (x != 2.0).then_some(y))).to_vec();
        plot.lines[0] = Line { label: "b".into(), class: "c2", points: points(9.0), under: Some(points(1.0)) };
        assert_eq!(plot.svg(NARROW, "narrow").matches("class=\"fill c2\"").count(), 2);
    }
}
