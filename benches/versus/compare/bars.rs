//! Bars with their spread, as SVG that fits a light and a dark page.
//!
//! Owns their looks. Colours are names of the page's style, as in the charts of
//! `corebeat::load::chart`: plotters draws in colours that stand for them, and they are put in
//! their places afterwards. Never knows what it shows.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const WIDTH: u32 = 860;
/// Where bars begin and end.
const LEFT: i32 = 118;
const RIGHT: i32 = 600;
const TOP: i32 = 8;
const LINE: i32 = 30;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(1, 2, 3);
const GRID: RGBColor = RGBColor(4, 5, 6);
const SOFT: RGBColor = RGBColor(7, 8, 9);
const COLOURS: [RGBColor; 3] = [RGBColor(11, 0, 0), RGBColor(12, 0, 0), RGBColor(13, 0, 0)];

/// One bar.
pub(crate) struct Bar {
    pub(crate) name: &'static str,
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    /// The figure as text.
    pub(crate) value: String,
    /// Its spread as text.
    pub(crate) spread: String,
}

/// A line across all bars.
pub(crate) struct Level {
    pub(crate) at: f64,
    pub(crate) name: String,
}

/// The nth bar has the colour `var(--line0)` and so on; levels are dashed.
///
/// # Errors
/// What the drawing library says, which is about the size of the drawing.
pub(crate) fn bars(bars: &[Bar], levels: &[Level]) -> Result<String, String> {
    let below = 6 + 20 * levels.len() as i32;
    let bottom = TOP + LINE * bars.len() as i32;
    let size = (WIDTH, (bottom + below) as u32);
    let longest = bars.iter().map(|bar| bar.highest).chain(levels.iter().map(|level| level.at));
    let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + (value / longest * f64::from(RIGHT - LEFT)).round() as i32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let error = |error: DrawingAreaErrorKind<_>| error.to_string();
        area.draw(&PathElement::new([(LEFT, TOP), (LEFT, bottom)], GRID)).map_err(error)?;
        for (nth, bar) in bars.iter().enumerate() {
            draw_bar(&area, bar, nth, &x).map_err(error)?;
        }
        for (nth, level) in (0..).zip(levels) {
            let (at, text_y) = (x(level.at), bottom + 14 + 20 * nth);
            for from in (TOP..text_y - 8).step_by(8) {
                let dash = PathElement::new([(at, from), (at, from + 4)], INK);
                area.draw(&dash).map_err(error)?;
            }
            // Levels rise, and each name stands left of its line: no further line crosses it.
            let (style, beside) = (text(13, &SOFT, HPos::Right), -6);
            area.draw(&Text::new(level.name.clone(), (at + beside, text_y), style))
                .map_err(error)?;
        }
    }
    Ok(themed(svg, size))
}

fn draw_bar<DB: DrawingBackend>(
    area: &DrawingArea<DB, plotters::coord::Shift>,
    bar: &Bar,
    nth: usize,
    x: &impl Fn(f64) -> i32,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let middle = TOP + LINE * nth as i32 + LINE / 2;
    let (top, bottom) = (middle - 8, middle + 8);
    let colour = COLOURS[nth % COLOURS.len()];
    area.draw(&Text::new(bar.name, (LEFT - 10, middle), text(14, &INK, HPos::Right)))?;
    area.draw(&Rectangle::new([(LEFT, top), (x(bar.median), bottom)], colour.filled()))?;
    let (from, to) = (x(bar.lowest), x(bar.highest));
    if to > from {
        let style = ShapeStyle::from(INK).stroke_width(1);
        area.draw(&PathElement::new([(from, middle), (to, middle)], style))?;
        for at in [from, to] {
            area.draw(&PathElement::new([(at, middle - 4), (at, middle + 4)], style))?;
        }
    }
    let value = text(14, &INK, HPos::Left);
    area.draw(&Text::new(bar.value.clone(), (RIGHT + 12, middle), value))?;
    area.draw(&Text::new(bar.spread.clone(), (RIGHT + 96, middle), text(12, &SOFT, HPos::Left)))
}

fn text(size: i32, colour: &RGBColor, side: HPos) -> TextStyle<'static> {
    (FONT, size).into_font().color(colour).pos(Pos::new(side, VPos::Center))
}

/// Puts the names of colours in their places, and lets the drawing fit its column.
fn themed(svg: String, (width, height): (u32, u32)) -> String {
    let hex = |colour: RGBColor| format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2);
    let mut svg = svg
        .replace(&hex(INK), "var(--ink)")
        .replace(&hex(GRID), "var(--grid)")
        .replace(&hex(SOFT), "var(--soft)");
    for (nth, colour) in COLOURS.into_iter().enumerate() {
        svg = svg.replace(&hex(colour), &format!("var(--line{nth})"));
    }
    let fixed = format!("width=\"{width}\" height=\"{height}\"");
    svg.replacen(&fixed, "role=\"img\"", 1)
}
