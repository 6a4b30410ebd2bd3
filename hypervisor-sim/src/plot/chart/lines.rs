//! Lines over two axes.

use svg::node::element::{Group, Path, Text};

use super::scale::Ruler;
use super::style::{marker, stroke};
use super::{LINE, Place, line, round, text_width, x_axis};
use crate::plot::model::{Kind, Panel, Point, Series};

/// Rows that the words of marks take, one after the other: beside each other they would touch.
pub(super) const MARK_ROWS: usize = 2;
/// How far series stand aside from each other, in pixels.
const ASIDE: f64 = 2.5;

/// Draws a panel of lines into a place.
pub(super) fn draw(panel: &Panel, plot: Place) -> Group {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    let x = Ruler::new(&panel.x, points().map(|point| point.x), 1.0);
    let y = Ruler::new(&panel.y, points().flat_map(|point| [point.least, point.most]), 1.02);
    let chart = Chart { x, y, plot, trace: panel.kind == Kind::Trace };
    let mut group = Group::new().add(x_axis(&chart.x, plot)).add(chart.y_axis(&panel.y.label));
    let rows = MARK_ROWS.min(panel.marks.len()).max(1);
    for (index, mark) in panel.marks.iter().enumerate() {
        group = group.add(chart.mark(mark.x, &mark.label, rows - 1 - index % rows));
    }
    let between = panel.series.len().saturating_sub(1) as f64 / 2.0;
    for (index, series) in panel.series.iter().enumerate() {
        // Side by side, so that ranges at the same x do not hide each other.
        let aside = if chart.trace { 0.0 } else { (index as f64 - between) * ASIDE };
        group = group.add(chart.series(series, aside));
    }
    group
}

struct Chart {
    x: Ruler,
    y: Ruler,
    plot: Place,
    trace: bool,
}

impl Chart {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let Place { width, height, .. } = self.plot;
        let right = self.plot.x + self.x.part(x) * width;
        (right, self.plot.bottom() - self.y.part(y) * height)
    }

    fn y_axis(&self, label: &str) -> Group {
        let plot = self.plot;
        let mut group = Group::new();
        for (value, number) in self.y.ticks() {
            let y = plot.bottom() - self.y.part(*value) * plot.height;
            group = group.add(line(plot.x, y, plot.right(), y, "grid")).add(
                Text::new(number.clone())
                    .set("x", plot.x - 7.0)
                    .set("y", round(y + 4.0))
                    .set("class", "tick end"),
            );
        }
        let (x, y) = (plot.x - 48.0, plot.y + plot.height / 2.0);
        group.add(line(plot.x, plot.y, plot.x, plot.bottom(), "axis")).add(
            Text::new(label.to_owned())
                .set("transform", format!("translate({} {}) rotate(-90)", round(x), round(y)))
                .set("class", "label"),
        )
    }

    /// A dotted line, whose words stand above the axes: within them they would cross lines.
    fn mark(&self, x: f64, label: &str, row: usize) -> Group {
        let (low, high) = self.x.ends();
        let plot = self.plot;
        let (x, _) = self.at(x.clamp(low, high), self.y.ends().0);
        let up = plot.y - row as f64 * LINE;
        let group = Group::new().add(line(
            x,
            if label.is_empty() { plot.y } else { up - LINE + 4.0 },
            x,
            plot.bottom(),
            "marked",
        ));
        if label.is_empty() {
            return group;
        }
        let fits = x + text_width(label, 11.0) <= plot.right() + 10.0;
        let (x, class) = if fits { (x + 3.0, "mark") } else { (x - 3.0, "mark end") };
        group.add(
            Text::new(label.to_owned())
                .set("x", round(x))
                .set("y", round(up + 4.0 - LINE / 2.0))
                .set("class", class),
        )
    }

    fn series(&self, series: &Series, aside: f64) -> Group {
        let mut group = Group::new();
        let drawn: Vec<&Point> = series
            .points
            .iter()
            .filter(|point| self.x.has(point.x) && self.y.has(point.median))
            .collect();
        let places: Vec<String> = drawn
            .iter()
            .map(|point| self.at(point.x, point.median))
            .map(|(x, y)| format!("{} {}", round(x + aside), round(y)))
            .collect();
        let class = if self.trace { "trace" } else { "line" };
        if places.len() > 1 {
            group = group.add(
                Path::new()
                    .set("d", format!("M{}", places.join("L")))
                    .set("class", stroke(series.look, class)),
            );
        }
        if self.trace {
            return group;
        }
        for point in drawn {
            if point.most > point.least && self.y.has(point.least) {
                group = group.add(self.range(series, point, aside));
            }
            let (x, y) = self.at(point.x, point.median);
            group = group.add(marker(series.look, x + aside, y));
        }
        group
    }

    /// From the least to the most of the rounds.
    fn range(&self, series: &Series, point: &Point, aside: f64) -> Path {
        let (x, low) = self.at(point.x, point.least);
        let (_, high) = self.at(point.x, point.most);
        let x = x + aside;
        let [x0, x, x1, low, high] = [x - 2.0, x, x + 2.0, low, high].map(round);
        Path::new()
            .set(
                "d",
                format!("M{x} {low}L{x} {high}M{x0} {low}L{x1} {low}M{x0} {high}L{x1} {high}"),
            )
            .set("class", stroke(series.look, "range"))
    }
}
