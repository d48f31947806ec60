//! Line charts as SVG: panels in a grid, each with axes, ticks and a legend.

use std::fmt::Write as _;

/// A picture of panels.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its heading.
    pub title: String,
    /// What it stands for, smaller.
    pub subtitle: String,
    /// Side by side and below each other.
    pub panels: Vec<Panel>,
    /// What lines mean, by their colour and stroke; the same for all panels.
    pub legend: Vec<(String, Style)>,
}

/// A chart. The x axis has one place for each category.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Its heading.
    pub title: String,
    /// What is on the x axis.
    pub x_label: String,
    /// The categories.
    pub categories: Vec<String>,
    /// What is on the y axis.
    pub y_label: String,
    /// Logarithmic, or from zero.
    pub logarithmic: bool,
    /// Lines from left to right.
    pub lines: Vec<Line>,
    /// Horizontal lines.
    pub levels: Vec<(f64, Style)>,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Line {
    /// How it looks.
    pub style: Style,
    /// From left to right.
    pub points: Vec<Point>,
}

/// Category, value, and from where to where it varies.
pub type Point = (usize, f64, Option<(f64, f64)>);

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// A colour of CSS.
    pub colour: &'static str,
    /// Dashes of SVG; empty for a full line.
    pub dashes: &'static str,
    /// What stands at each point.
    pub mark: Mark,
}

/// What stands at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A disc, and lines between them.
    Disc,
    /// A diamond, and no line.
    Diamond,
    /// Nothing but the line.
    None,
}

const COLUMNS: usize = 3;
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 285.0;
const HEAD: f64 = 96.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 52.0;
const INK: &str = "#24292f";
const FAINT: &str = "#57606a";

impl Figure {
    /// The picture as SVG.
    #[expect(clippy::cast_precision_loss, reason = "few panels")]
    pub fn svg(&self) -> String {
        let columns = self.panels.len().clamp(1, COLUMNS);
        let rows = self.panels.len().div_ceil(columns);
        let (width, height) = ((columns as f64 * WIDTH + 16.0).max(560.0), rows as f64 * HEIGHT + HEAD + 6.0);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif\" \
             font-size=\"12\" fill=\"{INK}\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        text(&mut out, (18.0, 30.0), "start", "font-size=\"19\" font-weight=\"600\"", &self.title);
        text(&mut out, (18.0, 51.0), "start", &format!("fill=\"{FAINT}\""), &self.subtitle);
        let mut x = 18.0;
        for (label, style) in &self.legend {
            if style.mark != Mark::Diamond {
                line(&mut out, (x, 74.0), (x + 26.0, 74.0), style, 2.2);
            }
            mark(&mut out, (x + 13.0, 74.0), style);
            text(&mut out, (x + 33.0, 78.0), "start", "", label);
            x += 33.0 + 6.7 * label.chars().count() as f64 + 24.0;
        }
        for (number, panel) in self.panels.iter().enumerate() {
            let (column, row) = (number % columns, number / columns);
            panel.draw(&mut out, column as f64 * WIDTH + 8.0, row as f64 * HEIGHT + HEAD);
        }
        out.push_str("</svg>\n");
        out
    }
}

/// The y axis: values to places.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    top: f64,
    bottom: f64,
}

impl Scale {
    fn place(&self, value: f64) -> f64 {
        let (low, high, value) = if self.logarithmic {
            (self.low.log10(), self.high.log10(), value.max(self.low).log10())
        } else {
            (self.low, self.high, value)
        };
        let share = (value - low) / (high - low);
        self.bottom - share * (self.bottom - self.top)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = std::iter::successors(Some(self.low), |value| Some(value * 10.0));
            return decades.take_while(|value| *value <= self.high * 1.001).collect();
        }
        let step = step(self.high);
        let ticks = std::iter::successors(Some(0.0), |value| Some(value + step));
        ticks.take_while(|value| *value <= self.high * 1.001).collect()
    }
}

/// The least of 1, 2, 2.5, 5 times a power of ten by which not more than five steps lead to `high`.
fn step(high: f64) -> f64 {
    let decade = 10_f64.powf((high / 5.0).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * decade);
    steps.into_iter().find(|step| high / step <= 5.001).unwrap_or(high)
}

impl Panel {
    #[expect(clippy::cast_precision_loss, reason = "few categories")]
    fn draw(&self, out: &mut String, x: f64, y: f64) {
        let (left, right) = (x + LEFT, x + WIDTH - RIGHT);
        let scale = self.scale(y + TOP, y + HEIGHT - BOTTOM);
        text(out, (left, y + 20.0), "start", "font-weight=\"600\" font-size=\"13\"", &self.title);
        let grid = Style { colour: "#d8dee4", dashes: "", mark: Mark::None };
        for tick in scale.ticks() {
            let at = scale.place(tick);
            line(out, (left, at), (right, at), &grid, 1.0);
            text(out, (left - 7.0, at + 4.0), "end", &format!("fill=\"{FAINT}\""), &number(tick));
        }
        let gap = (right - left) / self.categories.len().max(1) as f64;
        let middle = |category: usize| left + gap * (category as f64 + 0.5);
        for (category, name) in self.categories.iter().enumerate() {
            let at = middle(category);
            text(out, (at, scale.bottom + 17.0), "middle", &format!("fill=\"{FAINT}\""), name);
        }
        let axis = Style { colour: "#8c959f", dashes: "", mark: Mark::None };
        line(out, (left, scale.bottom), (right, scale.bottom), &axis, 1.0);
        let label = format!("fill=\"{FAINT}\"");
        text(out, (f64::midpoint(left, right), scale.bottom + 37.0), "middle", &label, &self.x_label);
        let (lx, ly) = (x + 14.0, f64::midpoint(scale.top, scale.bottom));
        let turned = format!("{label} transform=\"rotate(-90 {lx:.1} {ly:.1})\"");
        text(out, (lx, ly), "middle", &turned, &self.y_label);
        for (value, style) in &self.levels {
            if *value <= scale.high {
                line(out, (left, scale.place(*value)), (right, scale.place(*value)), style, 1.6);
            } else {
                // Too far above to be drawn without flattening all else.
                let note = format!("fill=\"{}\" font-size=\"11\"", style.colour);
                let what = format!("↑ {}", number(value.round()));
                text(out, (right, scale.top - 5.0), "end", &note, &what);
            }
        }
        for one in &self.lines {
            one.draw(out, &scale, &middle);
        }
    }

    fn scale(&self, top: f64, bottom: f64) -> Scale {
        let values = || self.lines.iter().flat_map(|line| &line.points).map(|(_, value, _)| *value);
        let highest = values().fold(f64::MIN_POSITIVE, f64::max);
        let (low, high) = if self.logarithmic {
            let lowest = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
            let lowest = if lowest.is_finite() { lowest } else { highest };
            let low = 10_f64.powf(lowest.log10().floor());
            (low, 10_f64.powf(highest.log10().ceil()).max(low * 10.0))
        } else {
            // Levels are shown as far as they leave the lines room.
            let levels = self.levels.iter().map(|(value, _)| *value);
            let high = levels.filter(|level| *level <= highest * 2.6).fold(highest, f64::max);
            let step = step(high);
            (0.0, (high / step).ceil() * step)
        };
        Scale { low, high, logarithmic: self.logarithmic, top, bottom }
    }
}

impl Line {
    fn draw(&self, out: &mut String, scale: &Scale, middle: &dyn Fn(usize) -> f64) {
        if self.style.mark != Mark::Diamond {
            let places: Vec<String> = self
                .points
                .iter()
                .map(|(at, value, _)| format!("{:.1},{:.1}", middle(*at), scale.place(*value)))
                .collect();
            let Style { colour, dashes, .. } = self.style;
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\" \
                 stroke-linejoin=\"round\" stroke-dasharray=\"{dashes}\"/>",
                places.join(" ")
            );
        }
        for (at, value, range) in &self.points {
            if let Some((min, max)) = range {
                let whisker = Style { dashes: "", ..self.style };
                let (high, low) = (scale.place(*max).max(scale.top), scale.place(*min));
                line(out, (middle(*at), high), (middle(*at), low), &whisker, 1.2);
            }
            mark(out, (middle(*at), scale.place(*value)), &self.style);
        }
    }
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), style: &Style, width: f64) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{}\" stroke-width=\"{width}\" \
         stroke-dasharray=\"{}\"/>",
        from.0, from.1, to.0, to.1, style.colour, style.dashes
    );
}

fn mark(out: &mut String, at: (f64, f64), style: &Style) {
    let (x, y) = at;
    let _ = match style.mark {
        Mark::Diamond => writeln!(
            out,
            "<path d=\"M{x:.1} {:.1} l5 5 l-5 5 l-5 -5 z\" fill=\"{}\" stroke=\"#ffffff\"/>",
            y - 5.0,
            style.colour
        ),
        Mark::Disc => {
            writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{}\"/>", style.colour)
        }
        Mark::None => Ok(()),
    };
}

fn text(out: &mut String, at: (f64, f64), anchor: &str, more: &str, what: &str) {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" {more}>{what}</text>",
        at.0, at.1
    );
}

/// A number as people read it: `12,500`, `0.25`.
pub fn number(value: f64) -> String {
    if value.fract() != 0.0 && value.abs() < 100.0 {
        let text = format!("{value:.3}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        let left = digits.len() - position;
        if position > 0 && left.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        for (value, expected) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (12_500.0, "12,500"),
            (999.0, "999"),
            (-1000.0, "-1,000"),
            (1e6, "1,000,000"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn ticks_are_round_and_not_too_many() {
        for (high, expected) in [(10.0, 2.0), (12.0, 2.5), (16_000.0, 5000.0), (0.3, 0.1), (5.0, 1.0)] {
            assert!((step(high) - expected).abs() < 1e-9 * expected, "{high}: {}", step(high));
        }
    }

    #[test]
    fn a_value_lies_between_the_ends_of_its_axis() {
        let scale = |logarithmic, low| Scale { low, high: 100.0, logarithmic, top: 10.0, bottom: 110.0 };
        assert!((scale(false, 0.0).place(25.0) - 85.0).abs() < 1e-9);
        assert!((scale(true, 1.0).place(10.0) - 60.0).abs() < 1e-9);
        assert_eq!(scale(true, 1.0).ticks().len(), 3);
    }
}
