//! What each series looks like: above the panels, where no line is.

use svg::node::element::{Group, Rectangle, Text};

use super::style::{fill, marker, stroke};
use super::{MARGIN, WIDTH, line, text_width};
use crate::plot::model::{Figure, Kind, Look};

/// Width of a sample.
const SAMPLE: f64 = 30.0;
/// Height of a row.
const ROW: f64 = 19.0;

/// The legend, whose first row stands at `y`, and where the panels may begin.
pub(super) fn draw(figure: &Figure, y: f64) -> (Group, f64) {
    let mut group = Group::new();
    let (mut x, mut y) = (MARGIN, y + 5.0);
    for (name, look) in figure.legend() {
        let width = SAMPLE + 6.0 + text_width(name, 12.0) + 16.0;
        if x > MARGIN && x + width > WIDTH - MARGIN {
            (x, y) = (MARGIN, y + ROW);
        }
        let kind = figure.panels.first().map_or(&Kind::Lines, |panel| &panel.kind);
        group = group.add(sample(kind, look, x, y - 4.0)).add(
            Text::new(name.to_owned()).set("x", x + SAMPLE + 6.0).set("y", y).set("class", "key"),
        );
        x += width;
    }
    (group, y + 14.0)
}

fn sample(kind: &Kind, look: Look, x: f64, y: f64) -> Group {
    let group = Group::new();
    let whole = |class: &str| line(x, y, x + SAMPLE, y, &stroke(look, class));
    match kind {
        Kind::Lines => group.add(whole("line")).add(marker(look, x + SAMPLE / 2.0, y)),
        Kind::Trace => group.add(whole("trace")),
        Kind::StackedBars(_) if look == Look::Ink => group
            .add(line(x + 6.0, y, x + SAMPLE - 6.0, y, "whisker"))
            .add(line(x + 6.0, y - 4.0, x + 6.0, y + 4.0, "whisker"))
            .add(line(x + SAMPLE - 6.0, y - 4.0, x + SAMPLE - 6.0, y + 4.0, "whisker")),
        Kind::StackedBars(_) => group.add(
            Rectangle::new()
                .set("x", x + 8.0)
                .set("y", y - 6.0)
                .set("width", SAMPLE - 8.0)
                .set("height", 12.0)
                .set("class", fill(look, "part")),
        ),
    }
}
