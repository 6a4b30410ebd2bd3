//! Colours, markers, dashes.

use svg::node::element::Path;

use super::round;
use crate::plot::model::Look;

const LOOKS: [Look; 8] = [
    Look::Ink,
    Look::Blue,
    Look::Green,
    Look::Orange,
    Look::Vermillion,
    Look::Purple,
    Look::Sky,
    Look::Grey,
];

/// What stands in the style sheet's class names.
fn name(look: Look) -> &'static str {
    match look {
        Look::Ink => "ink",
        Look::Blue => "blue",
        Look::Green => "green",
        Look::Orange => "orange",
        Look::Vermillion => "vermillion",
        Look::Purple => "purple",
        Look::Sky => "sky",
        Look::Grey => "grey",
    }
}

/// On white, and on black: there the darker ones are lighter.
fn colours(look: Look) -> [&'static str; 2] {
    match look {
        Look::Ink => ["#000000", "#f0f0f0"],
        Look::Blue => ["#0072b2", "#3b9ddd"],
        Look::Green => ["#009e73", "#1fbf92"],
        Look::Orange => ["#e69f00", "#e69f00"],
        Look::Vermillion => ["#d55e00", "#f0702a"],
        Look::Purple => ["#cc79a7", "#d98fb8"],
        Look::Sky => ["#56b4e9", "#9ad7ff"],
        Look::Grey => ["#b0b0b0", "#6e6e6e"],
    }
}

/// Lengths of dashes and of gaps.
fn dashes(look: Look) -> &'static str {
    match look {
        Look::Ink | Look::Blue | Look::Vermillion | Look::Grey => "none",
        Look::Green => "9 3",
        Look::Orange => "9 3 2 3",
        Look::Purple => "2 3",
        Look::Sky => "5 3",
    }
}

/// The style sheet: the same in every figure, since a page has all of them in it.
pub(super) fn sheet() -> String {
    let mut light = String::from(
        ".background{fill:#fff}\
         text{font-family:Helvetica,Arial,'Liberation Sans','DejaVu Sans',sans-serif;font-size:12px;fill:#1a1a1a}\
         .title{font-size:16px;font-weight:bold}\
         .panel{font-weight:bold;text-anchor:middle}\
         .label{text-anchor:middle}\
         .middle{text-anchor:middle}.end{text-anchor:end}\
         .foot{font-size:11px;fill:#5c5c5c}.mark{font-size:11px}\
         .axis{stroke:#1a1a1a;stroke-width:1}\
         .grid{stroke:#dedede;stroke-width:1}\
         .marked{stroke:#5c5c5c;stroke-width:1;stroke-dasharray:2 3}\
         .whisker{stroke:#000;stroke-width:1.3;fill:none}\
         .line{fill:none;stroke-width:2}.trace{fill:none;stroke-width:1.5}\
         .range{fill:none;stroke-width:1}.hollow{stroke-width:2}\
         .part{stroke:#fff;stroke-width:1}",
    );
    let mut dark = String::from(
        ".background{fill:#15181c}text{fill:#e8e8e8}.foot{fill:#a8a8a8}.axis{stroke:#e8e8e8}\
         .grid{stroke:#33383e}.marked{stroke:#a8a8a8}.whisker{stroke:#fff}.part{stroke:#15181c}",
    );
    for look in LOOKS {
        let (name, [on_white, on_black]) = (name(look), colours(look));
        light.push_str(&format!(
            ".stroke-{name}{{stroke:{on_white}}}.fill-{name}{{fill:{on_white}}}\
             .line.stroke-{name}{{stroke-dasharray:{}}}",
            dashes(look)
        ));
        dark.push_str(&format!(
            ".stroke-{name}{{stroke:{on_black}}}.fill-{name}{{fill:{on_black}}}"
        ));
    }
    format!("{light}@media (prefers-color-scheme:dark){{{dark}}}")
}

/// The class of what is drawn with a pen.
pub(super) fn stroke(look: Look, kind: &str) -> String {
    format!("{kind} stroke-{}", name(look))
}

/// The class of what is filled.
pub(super) fn fill(look: Look, kind: &str) -> String {
    format!("{kind} fill-{}", name(look))
}

/// A marker around a place.
pub(super) fn marker(look: Look, x: f64, y: f64) -> Path {
    let class = match look {
        Look::Vermillion | Look::Sky => stroke(look, "hollow"),
        _ => fill(look, "marker"),
    };
    Path::new().set("d", outline(look, x, y)).set("class", class)
}

fn outline(look: Look, x: f64, y: f64) -> String {
    let at = |dx: f64, dy: f64| format!("{} {}", round(x + dx), round(y + dy));
    let shape = |corners: &[(f64, f64)]| {
        let corners: Vec<String> = corners.iter().map(|(dx, dy)| at(*dx, *dy)).collect();
        format!("M{}Z", corners.join("L"))
    };
    let stroked = |lines: [(f64, f64); 4]| {
        let [a, b, c, d] = lines.map(|(dx, dy)| at(dx, dy));
        format!("M{a}L{b}M{c}L{d}")
    };
    match look {
        Look::Ink => shape(&[(-3.5, -3.5), (3.5, -3.5), (3.5, 3.5), (-3.5, 3.5)]),
        Look::Green => shape(&[(0.0, -4.8), (4.4, 3.4), (-4.4, 3.4)]),
        Look::Orange => shape(&[(0.0, -5.0), (5.0, 0.0), (0.0, 5.0), (-5.0, 0.0)]),
        Look::Purple => shape(&[(0.0, 4.8), (4.4, -3.4), (-4.4, -3.4)]),
        Look::Vermillion => stroked([(-3.8, -3.8), (3.8, 3.8), (-3.8, 3.8), (3.8, -3.8)]),
        Look::Sky => stroked([(-5.0, 0.0), (5.0, 0.0), (0.0, -5.0), (0.0, 5.0)]),
        Look::Blue | Look::Grey => {
            format!("M{}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z", at(-4.0, 0.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_looks_share_a_colour_or_a_marker() {
        for of in [|look| colours(look)[0].to_owned(), |look| colours(look)[1].to_owned()] {
            let all: BTreeSet<String> = LOOKS.iter().map(|look| of(*look)).collect();
            assert_eq!(all.len(), LOOKS.len());
        }
        // Grey is only ever a bar.
        let markers: BTreeSet<String> =
            LOOKS[..7].iter().map(|look| outline(*look, 0.0, 0.0)).collect();
        assert_eq!(markers.len(), 7);
    }
}
