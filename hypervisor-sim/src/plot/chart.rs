//! From a figure to an SVG document.
//!
//! The document stands by itself, light or dark as its reader likes it, and in a page. Its words
//! are text, so they can be searched and copied.

mod bars;
mod legend;
mod lines;
mod scale;
mod style;

use svg::Document;
use svg::node::element::{Description, Group, Rectangle, Style, Text, Title};

use self::scale::Ruler;
use super::model::{Figure, Kind, Panel};
use super::run::Run;

/// Width of every figure, in pixels.
const WIDTH: f64 = 780.0;
/// Around everything.
const MARGIN: f64 = 14.0;
/// Between panels.
const GAP: f64 = 18.0;
/// Height of a line of small text.
const LINE: f64 = 15.0;

/// A rectangle on the page.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Place {
    fn right(&self) -> f64 {
        self.x + self.width
    }

    fn bottom(&self) -> f64 {
        self.y + self.height
    }
}

/// Draws a figure, with what is said of the run below it.
pub fn draw(figure: &Figure, run: &Run) -> Document {
    let mut content = Group::new();
    content = content
        .add(Text::new(figure.title.clone()).set("x", MARGIN).set("y", 26.0).set("class", "title"));
    let (legend, mut y) = legend::draw(figure, 44.0);
    content = content.add(legend);
    let columns = figure.columns.max(1);
    let width = (WIDTH - 2.0 * MARGIN - GAP * (columns - 1) as f64) / columns as f64;
    for row in figure.panels.chunks(columns) {
        let height = row.iter().map(|panel| height(figure, panel)).fold(0.0, f64::max);
        for (column, panel) in row.iter().enumerate() {
            let x = MARGIN + column as f64 * (width + GAP);
            content = content.add(draw_panel(panel, Place { x, y, width, height }));
        }
        y += height + GAP;
    }
    for line in run.footnote() {
        content = content.add(
            Text::new(shortened(line, WIDTH - 2.0 * MARGIN))
                .set("x", MARGIN)
                .set("y", y)
                .set("class", "foot"),
        );
        y += LINE;
    }
    let height = (y + MARGIN - LINE + 6.0).ceil();
    Document::new()
        .set("viewBox", (0.0, 0.0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .set("role", "img")
        .add(Title::new(figure.title.clone()))
        .add(Description::new().add(svg::node::Text::new(figure.finding.clone())))
        .add(Style::new(style::sheet()))
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("class", "background"))
        .add(content)
}

fn height(figure: &Figure, panel: &Panel) -> f64 {
    match &panel.kind {
        Kind::StackedBars(names) => 66.0 + 27.0 * names.len() as f64,
        Kind::Trace => 220.0,
        Kind::Lines if figure.columns > 1 => 250.0,
        Kind::Lines => 380.0,
    }
}

/// About how wide a text is, of letters of `size` pixels: Helvetica's mean is a little less.
fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.55
}

/// Cut to a width, at the size of a footnote.
fn shortened(text: String, width: f64) -> String {
    let fits = (width / (11.0 * 0.5)) as usize;
    if text.chars().count() <= fits {
        return text;
    }
    text.chars().take(fits - 1).chain(['…']).collect()
}

fn draw_panel(panel: &Panel, place: Place) -> Group {
    let mut group = Group::new();
    if !panel.title.is_empty() {
        group = group.add(
            Text::new(panel.title.clone())
                .set("x", place.x + place.width / 2.0)
                .set("y", place.y + 13.0)
                .set("class", "panel"),
        );
    }
    let title = if panel.title.is_empty() { 6.0 } else { 22.0 };
    let labels = LINE
        * lines::MARK_ROWS.min(panel.marks.iter().filter(|mark| !mark.label.is_empty()).count())
            as f64;
    let left = match &panel.kind {
        Kind::StackedBars(names) => {
            names.iter().map(|name| text_width(name, 12.0)).fold(40.0, f64::max) + 10.0
        }
        _ => 62.0,
    };
    let (top, bottom, right) = (title + labels, 44.0, 12.0);
    let plot = Place {
        x: place.x + left,
        y: place.y + top,
        width: place.width - left - right,
        height: place.height - top - bottom,
    };
    group = group.add(match &panel.kind {
        Kind::StackedBars(names) => bars::draw(panel, names, plot),
        Kind::Lines | Kind::Trace => lines::draw(panel, plot),
    });
    group.add(
        Text::new(panel.x.label.clone())
            .set("x", plot.x + plot.width / 2.0)
            .set("y", plot.bottom() + 36.0)
            .set("class", "label"),
    )
}

/// The x axis: its line, its ticks, its numbers, as far as they do not run into each other, and a
/// grid.
fn x_axis(ruler: &Ruler, plot: Place) -> Group {
    let mut group = Group::new();
    let at = |value: f64| plot.x + ruler.part(value) * plot.width;
    for (value, _) in ruler.ticks() {
        group = group.add(line(at(*value), plot.y, at(*value), plot.bottom(), "grid"));
    }
    for (value, label) in scale::readable(ruler.ticks(), at) {
        group = group.add(
            Text::new(label)
                .set("x", at(value))
                .set("y", plot.bottom() + 17.0)
                .set("class", "tick middle"),
        );
    }
    group.add(line(plot.x, plot.bottom(), plot.right(), plot.bottom(), "axis"))
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64, class: &str) -> svg::node::element::Line {
    svg::node::element::Line::new()
        .set("x1", round(x1))
        .set("y1", round(y1))
        .set("x2", round(x2))
        .set("y2", round(y2))
        .set("class", class)
}

/// To a tenth of a pixel: files stay small, and differ only where the figures do.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
