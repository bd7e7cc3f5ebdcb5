//! Charts as SVG that fit a light and a dark page.
//!
//! Owns their looks. Colours are names of the page's own style (`var(--ink)`), so that a chart
//! changes with it, and no chart needs a script or a file from elsewhere. Never knows what it
//! shows.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (860, 340);
const FONT: &str = "sans-serif";
/// Colours that stand for names until the drawing is done: ink, grid, and one for each line.
const INK: RGBColor = RGBColor(1, 2, 3);
const GRID: RGBColor = RGBColor(4, 5, 6);
const LINES: [RGBColor; 6] = [
    RGBColor(11, 0, 0),
    RGBColor(12, 0, 0),
    RGBColor(13, 0, 0),
    RGBColor(14, 0, 0),
    RGBColor(15, 0, 0),
    RGBColor(16, 0, 0),
];

/// A named line. The page draws the legend: the nth line has the colour `var(--line0)` and so on.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// How an axis is labelled.
pub type Label = fn(f64) -> String;

/// Latency by percentile: from the median on, each nine as wide as the one before, both axes
/// logarithmic. Points are shares below 1 and positive latencies.
///
/// # Errors
/// What the drawing library says, which is about the size of the drawing.
pub fn percentiles(lines: &[Line], label: Label) -> Result<String, String> {
    let nines = |share: f64| -(1.0 - share).log10();
    let lines: Vec<Line> = lines
        .iter()
        .map(|line| Line {
            points: line.points.iter().map(|(share, y)| (nines(*share), *y)).collect(),
            ..line.clone()
        })
        .collect();
    let (right, bottom, top) = lines
        .iter()
        .flat_map(|line| &line.points)
        .fold((1.0f64, f64::INFINITY, 0.0f64), |(right, bottom, top), (x, y)| {
            (right.max(*x), bottom.min(*y), top.max(*y))
        });
    let bottom = 10f64.powf(bottom.clamp(1e-3, 1e12).log10().floor());
    let top = 10f64.powf(top.max(bottom * 10.0).log10().ceil());
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = frame(&area)
            .build_cartesian_2d(Nines(right), (bottom..top).log_scale())
            .map_err(|error| error.to_string())?;
        chart
            .configure_mesh()
            .axis_style(GRID)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .x_desc("percentile")
            .y_label_formatter(&|y| label(*y))
            .label_style(text())
            .draw()
            .map_err(|error| error.to_string())?;
        draw(&mut chart, &lines)?;
    }
    Ok(themed(svg))
}

/// Values over time in seconds, both axes linear and from 0.
///
/// # Errors
/// What the drawing library says, which is about the size of the drawing.
pub fn over_time(lines: &[Line], label: Label) -> Result<String, String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let right = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let top = points().map(|(_, y)| *y).fold(0.0, f64::max).max(1.0) * 1.08;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = frame(&area)
            .build_cartesian_2d(0.0..right, 0.0..top)
            .map_err(|error| error.to_string())?;
        chart
            .configure_mesh()
            .axis_style(GRID)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .x_labels(10)
            .y_labels(6)
            .x_desc("seconds")
            .x_label_formatter(&|x| format!("{}", (x * 10.0).round() / 10.0))
            .y_label_formatter(&|y| label(*y))
            .label_style(text())
            .draw()
            .map_err(|error| error.to_string())?;
        draw(&mut chart, lines)?;
    }
    Ok(themed(svg))
}

/// Nines of a percentile, from the median to so many.
struct Nines(f64);

impl Ranged for Nines {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let from = 0.5f64.log10().abs();
        let share = (value - from) / (self.0 - from).max(0.1);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        let whole = (1..=self.0.floor() as i32).map(f64::from);
        std::iter::once(0.5f64.log10().abs()).chain(whole).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        0.5f64.log10().abs()..self.0
    }
}

impl ValueFormatter<f64> for Nines {
    fn format_ext(&self, value: &f64) -> String {
        match value.round() as usize {
            0 => "50".into(),
            1 => "90".into(),
            2 => "99".into(),
            nines => format!("99.{}", "9".repeat(nines - 2)),
        }
    }
}

fn frame<'a, 'b>(
    area: &'a DrawingArea<SVGBackend<'b>, plotters::coord::Shift>,
) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(14).margin_right(28).x_label_area_size(46).y_label_area_size(84);
    builder
}

fn text<'a>() -> TextStyle<'a> {
    (FONT, 14).into_font().color(&INK)
}

fn draw<'a, 'b: 'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>,
    lines: &[Line],
) -> Result<(), String>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for (line, colour) in lines.iter().zip(LINES.into_iter().cycle()) {
        let stroke = ShapeStyle::from(colour).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), stroke))
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Puts the names of colours in their places, and lets the drawing fit its column.
fn themed(svg: String) -> String {
    let hex = |colour: RGBColor| format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2);
    let mut svg = svg.replace(&hex(INK), "var(--ink)").replace(&hex(GRID), "var(--grid)");
    for (nth, colour) in LINES.into_iter().enumerate() {
        svg = svg.replace(&hex(colour), &format!("var(--line{nth})"));
    }
    let (width, height) = SIZE;
    let fixed = format!("width=\"{width}\" height=\"{height}\"");
    svg.replacen(&fixed, "role=\"img\"", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, points: &[(f64, f64)]) -> Line {
        Line { name: name.into(), points: points.to_vec() }
    }

    fn label(value: f64) -> String {
        format!("{value:.0} µs")
    }

    #[test]
    fn percentiles_are_spread_by_their_nines() {
        let line =
            line("delivery", &[(0.5, 100.0), (0.9, 200.0), (0.99, 900.0), (0.9995, 5_000.0)]);
        let svg = percentiles(&[line], label).unwrap();
        for words in ["99.9", ">90<", "1000 µs", "var(--line0)", "var(--ink)", "viewBox"] {
            assert!(svg.replace('\n', "").contains(words), "{words} in {svg}");
        }
        assert!(!svg.contains("#0"), "no fixed colour is left: {svg}");
    }

    #[test]
    fn each_line_over_time_has_its_own_colour() {
        let lines =
            [line("one", &[(0.0, 1.0), (9.0, 5.0)]), line("two", &[(0.0, 2.0), (1.0, 2.0)])];
        let svg = over_time(&lines, label).unwrap();
        assert!(svg.contains("var(--line0)") && svg.contains("var(--line1)"));
        assert!(!over_time(&lines[..1], label).unwrap().contains("var(--line1)"));
        assert!(over_time(&[], label).is_ok(), "nothing to show is no error");
    }
}
