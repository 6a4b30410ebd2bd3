//! What is drawn: numbers and words, without a place on the page.

use serde::Serialize;

/// One figure, of one or more panels that share a legend.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figure {
    /// The stem of its files.
    pub id: &'static str,
    /// What is seen, in a line.
    pub title: String,
    /// What it shows and how it was measured, in two to four sentences.
    pub caption: String,
    /// What came out, in a sentence made of its numbers.
    pub finding: String,
    /// The command that measures the same by itself, if there is one.
    pub command: String,
    /// How many panels stand beside each other.
    pub columns: usize,
    /// The panels, left to right and top to bottom.
    pub panels: Vec<Panel>,
}

/// One pair of axes.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Panel {
    /// What is seen, in a few words.
    pub title: String,
    /// The axis to the right; of bars, the one that they grow along.
    pub x: Axis,
    /// The axis upwards; of bars it has no scale.
    pub y: Axis,
    /// How it is drawn.
    pub kind: Kind,
    /// What is drawn.
    pub series: Vec<Series>,
    /// Places on the x axis that mean something.
    pub marks: Vec<Mark>,
}

/// How a panel is drawn.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Lines with markers, and bars from the least to the most.
    Lines,
    /// Lines without markers, of many points that follow each other in time.
    Trace,
    /// Bars from left to right, one for each name, from top to bottom. A point's `x` is the number
    /// of its bar; the series stand one after the other in it.
    StackedBars(Vec<String>),
}

/// An axis.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Axis {
    /// Quantity and unit.
    pub label: String,
    /// How it is divided.
    pub scale: Scale,
    /// Where it has numbers, and which; empty: where round numbers are.
    pub ticks: Vec<(f64, String)>,
}

/// How an axis is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By factors of two.
    Log2,
    /// By factors of ten.
    Log10,
}

/// Points that belong together.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Series {
    /// Its name in the legend. The same name looks the same in all panels of a figure.
    pub name: String,
    /// What it looks like.
    pub look: Look,
    /// The points, in the order of `x`.
    pub points: Vec<Point>,
}

/// A point with what its rounds came to.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Point {
    /// Where on the x axis.
    pub x: f64,
    /// The median of the rounds.
    pub median: f64,
    /// The least of the rounds.
    pub least: f64,
    /// The most of the rounds.
    pub most: f64,
    /// How many rounds there were.
    pub rounds: usize,
}

/// A place on the x axis.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Mark {
    /// Where.
    pub x: f64,
    /// What is there.
    pub label: String,
}

/// A colour, a marker and a kind of line: each tells a series from the others by itself. Seven of
/// Okabe and Ito's eight colours, which people who do not see all colours tell apart; their yellow
/// is too pale for a line on white.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Look {
    /// Black (white on black), squares, a full line.
    Ink,
    /// Blue, circles, a full line.
    Blue,
    /// Bluish green, triangles, long dashes.
    Green,
    /// Orange, diamonds, dashes and dots.
    Orange,
    /// Vermillion, crosses, a full line.
    Vermillion,
    /// Reddish purple, triangles upside down, dots.
    Purple,
    /// Sky blue, plus signs, short dashes.
    Sky,
    /// Grey: what is apart from the others.
    Grey,
}

impl Axis {
    /// An axis with round numbers.
    pub fn new(label: &str, scale: Scale) -> Axis {
        Axis { label: label.to_owned(), scale, ticks: Vec::new() }
    }

    /// An axis with these numbers only.
    pub fn with_ticks(label: &str, scale: Scale, ticks: Vec<(f64, String)>) -> Axis {
        Axis { label: label.to_owned(), scale, ticks }
    }
}

impl Point {
    /// A point of what the rounds came to; nothing of none.
    pub fn of_rounds(x: f64, rounds: &[f64]) -> Option<Point> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let median = crate::measure::median(&sorted);
        Some(Point { x, median, least, most, rounds: sorted.len() })
    }

    /// A point that was counted or read once.
    pub fn once(x: f64, value: f64) -> Point {
        Point { x, median: value, least: value, most: value, rounds: 1 }
    }
}

impl Figure {
    /// The names and looks of all its series, each once, in order.
    pub fn legend(&self) -> Vec<(&str, Look)> {
        let mut legend: Vec<(&str, Look)> = Vec::new();
        for series in self.panels.iter().flat_map(|panel| &panel.series) {
            if !legend.iter().any(|(name, _)| *name == series.name) {
                legend.push((&series.name, series.look));
            }
        }
        legend
    }
}
