//! From a value to a place on an axis, and where the axis has numbers.

use crate::plot::model::{Axis, Scale};

/// An axis with its ends.
#[derive(Clone, Debug)]
pub(super) struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

/// How much room a logarithmic axis has beyond its first and last point, as a part of its length.
const BEYOND: f64 = 0.04;

impl Ruler {
    /// A ruler for these values, with room for `beyond` times the largest on a linear axis.
    pub fn new(axis: &Axis, values: impl Iterator<Item = f64>, beyond: f64) -> Ruler {
        let drawn =
            |value: &f64| value.is_finite() && (axis.scale == Scale::Linear || *value > 0.0);
        let values: Vec<f64> = values.filter(drawn).collect();
        let most = values.iter().copied().fold(f64::MIN, f64::max);
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        let (most, least) = if values.is_empty() { (1.0, 1.0) } else { (most, least) };
        let (low, high, ticks) = match axis.scale {
            Scale::Linear => {
                let top = if most > 0.0 { most * beyond } else { 1.0 };
                let step = step(top);
                let count = (top / step - 1e-9).ceil();
                let ticks = (0..=count as u32).map(|n| f64::from(n) * step);
                (0.0, count * step, ticks.map(|value| (value, number(value))).collect())
            }
            Scale::Log2 => {
                let room = ((most / least).ln() * BEYOND).max(0.05).exp();
                let first = least.log2().ceil() as i32;
                let ticks = (first..=most.log2().floor() as i32).map(|n| 2f64.powi(n));
                (least / room, most * room, ticks.map(|value| (value, number(value))).collect())
            }
            Scale::Log10 => log10(least, most),
        };
        let ticks = if axis.ticks.is_empty() { ticks } else { axis.ticks.clone() };
        Ruler { scale: axis.scale, low, high, ticks }
    }

    /// Where a value is: 0 at the low end, 1 at the high end.
    pub fn part(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log2 | Scale::Log10 => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    /// Whether a value has a place: a logarithmic axis has no zero.
    pub fn has(&self, value: f64) -> bool {
        value.is_finite() && (self.scale == Scale::Linear || value > 0.0)
    }

    /// The numbers on it.
    pub fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }

    /// The ends.
    pub fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }
}

/// Whole decades are many numbers too few for a short axis, and the right ones for a long one.
fn log10(least: f64, most: f64) -> (f64, f64, Vec<(f64, String)>) {
    let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
    let within: &[f64] = if last - first > 2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all: Vec<f64> =
        (first..=last).flat_map(|n| within.iter().map(move |m| m * 10f64.powi(n))).collect();
    let slack = 1.0 + 1e-9;
    let low = all.iter().copied().rfind(|tick| *tick <= least * slack).unwrap_or(least);
    let high = all.iter().copied().find(|tick| *tick * slack >= most).unwrap_or(most);
    let high = if high <= low { low * 10.0 } else { high };
    let ticks = all.into_iter().filter(|tick| (low / slack..=high * slack).contains(tick));
    (low, high, ticks.map(|value| (value, number(value))).collect())
}

/// A round step of which there are about five up to `top`.
fn step(top: f64) -> f64 {
    let raw = top / 5.0;
    let decade = 10f64.powf(raw.log10().floor());
    let factor =
        [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * decade >= raw * 0.999);
    factor.unwrap_or(10.0) * decade
}

/// A number as short as it can be said.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// The ticks whose numbers can be read beside each other: the last, and of the others those that
/// leave room.
pub(super) fn readable(ticks: &[(f64, String)], at: impl Fn(f64) -> f64) -> Vec<(f64, String)> {
    let half = |label: &str| super::text_width(label, 12.0) / 2.0 + 3.0;
    let mut kept: Vec<(f64, String)> = Vec::new();
    for (value, label) in ticks.iter().rev() {
        let end = at(*value) + half(label);
        if kept.last().is_none_or(|(next, other)| end <= at(*next) - half(other)) {
            kept.push((*value, label.clone()));
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<String> {
        let ruler = Ruler::new(&Axis::new("", scale), values.iter().copied(), 1.0);
        ruler.ticks().iter().map(|(_, label)| label.clone()).collect()
    }

    #[test]
    fn axes_have_round_numbers_from_end_to_end() {
        assert_eq!(labels(Scale::Linear, &[8.7, 3.0]), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(Scale::Linear, &[0.31]), ["0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels(Scale::Log2, &[2.0, 32.0]), ["2", "4", "8", "16", "32"]);
        assert_eq!(labels(Scale::Log10, &[0.008, 2.1]), ["0.001", "0.01", "0.1", "1", "10"]);
        assert_eq!(labels(Scale::Log10, &[30.0, 400.0]), ["20", "50", "100", "200", "500"]);
        // Nothing, and nothing but zero, still make an axis.
        assert_eq!(labels(Scale::Linear, &[]).first().map(String::as_str), Some("0"));
        assert!(labels(Scale::Linear, &[0.0]).len() > 1);
        assert!(!labels(Scale::Log10, &[]).is_empty());
    }

    #[test]
    fn every_value_is_between_the_ends() {
        for scale in [Scale::Linear, Scale::Log2, Scale::Log10] {
            for values in [&[0.02, 3.0, 17.0][..], &[5.0], &[1000.0, 1001.0]] {
                let ruler = Ruler::new(&Axis::new("", scale), values.iter().copied(), 1.0);
                for value in values {
                    let part = ruler.part(*value);
                    assert!((-1e-6..=1.0 + 1e-6).contains(&part), "{scale:?} {value}: {part}");
                }
            }
        }
    }

    #[test]
    fn numbers_that_would_run_into_each_other_are_left_out_and_the_last_stays() {
        let ticks: Vec<(f64, String)> =
            [0.0, 1.0, 2.0, 30.0].iter().map(|at| (*at, "65536".to_owned())).collect();
        let kept = readable(&ticks, |value| value * 3.0);
        assert_eq!(kept.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2.0, 30.0]);
    }
}
