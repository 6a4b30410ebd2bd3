//! Bars from left to right, made of parts.

use svg::node::element::{Group, Path, Rectangle, Text};

use super::scale::Ruler;
use super::style::fill;
use super::{Place, line, round, x_axis};
use crate::plot::model::{Look, Panel, Point, Series};

/// How much of its row a bar fills.
const FILLED: f64 = 0.68;
/// Room for the number at the end of the longest bar.
const BEYOND: f64 = 1.14;

/// Draws a panel of bars into a place.
pub(super) fn draw(panel: &Panel, names: &[String], plot: Place) -> Group {
    let lengths = (0..names.len()).map(|bar| stacked(panel, bar).max(total(panel, bar).most));
    let x = Ruler::new(&panel.x, lengths.collect::<Vec<f64>>().into_iter(), BEYOND);
    let mut group = Group::new().add(x_axis(&x, plot));
    let row = plot.height / names.len().max(1) as f64;
    for (bar, name) in names.iter().enumerate() {
        let middle = plot.y + (bar as f64 + 0.5) * row;
        group = group
            .add(
                Text::new(name.clone())
                    .set("x", plot.x - 7.0)
                    .set("y", round(middle + 4.0))
                    .set("class", "tick end"),
            )
            .add(draw_bar(panel, bar, &x, Place { y: middle, height: row * FILLED, ..plot }));
    }
    group.add(line(plot.x, plot.y, plot.x, plot.bottom(), "axis"))
}

/// One bar: its parts, the range of their sum, and the sum as a number. `place` is as wide as the
/// axis, and its `y` is the middle of the bar.
fn draw_bar(panel: &Panel, bar: usize, x: &Ruler, place: Place) -> Group {
    let at = |value: f64| place.x + x.part(value) * place.width;
    let mut group = Group::new();
    let mut from = 0.0;
    for series in parts(panel) {
        let Some(point) = point(series, bar) else { continue };
        group = group.add(
            Rectangle::new()
                .set("x", round(at(from)))
                .set("y", round(place.y - place.height / 2.0))
                .set("width", round(at(from + point.median) - at(from)))
                .set("height", round(place.height))
                .set("class", fill(series.look, "part")),
        );
        from += point.median;
    }
    let sum = total(panel, bar);
    if sum.most > sum.least {
        let [low, high, y] = [at(sum.least), at(sum.most), place.y].map(round);
        let data = format!("M{low} {y}L{high} {y}M{low} {}v8M{high} {}v8", y - 4.0, y - 4.0);
        group = group.add(Path::new().set("d", data).set("class", "whisker"));
    }
    group.add(
        Text::new(number_of(sum.median))
            .set("x", round(at(from.max(sum.most)) + 6.0))
            .set("y", round(place.y + 4.0))
            .set("class", "tick"),
    )
}

/// Three digits say enough of a timing.
fn number_of(value: f64) -> String {
    let digits = (2 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 4) as usize;
    format!("{value:.digits$}")
}

/// What stands in the bars: of several series not the one that is their sum.
fn parts(panel: &Panel) -> impl Iterator<Item = &Series> {
    let alone = panel.series.len() == 1;
    panel.series.iter().filter(move |series| alone || series.look != Look::Ink)
}

fn point(series: &Series, bar: usize) -> Option<&Point> {
    series.points.iter().find(|point| point.x == bar as f64)
}

/// The sum that a range and a number are drawn of: the series that says so, or the only one.
fn total(panel: &Panel, bar: usize) -> Point {
    let sum = match &panel.series[..] {
        [only] => Some(only),
        many => many.iter().find(|series| series.look == Look::Ink),
    };
    sum.and_then(|series| point(series, bar))
        .copied()
        .unwrap_or_else(|| Point::once(bar as f64, stacked(panel, bar)))
}

/// The length of a bar.
fn stacked(panel: &Panel, bar: usize) -> f64 {
    parts(panel).filter_map(|series| point(series, bar)).map(|point| point.median).sum()
}
