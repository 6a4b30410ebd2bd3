//! Medians, and how sure they are.

use serde::Serialize;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 10_000;
/// The seed of the bootstrap: the same samples give the same interval.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// The median with the least and the most.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The median.
    pub median: f64,
    /// The most.
    pub most: f64,
}

/// The median of some values; `None` of none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[count / 2]),
        count => Some((sorted[count / 2 - 1] + sorted[count / 2]) / 2.0),
    }
}

/// Median, least and most; `None` of none.
pub fn spread(values: &[f64]) -> Option<Spread> {
    let median = median(values)?;
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(Spread { least, median, most })
}

/// A median with the ends of its 95 % bootstrap interval.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The upper end.
    pub high: f64,
}

/// The median of values of independent rounds, and between what ends it lies with 95 % confidence
/// by the percentile bootstrap. `None` of none.
pub fn interval(values: &[f64]) -> Option<Interval> {
    let median_of_all = median(values)?;
    let mut state = SEED;
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let again: Vec<f64> = values
                .iter()
                .map(|_| values[(next(&mut state) % values.len() as u64) as usize])
                .collect();
            median(&again)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let at = |quantile: f64| medians[((RESAMPLES - 1) as f64 * quantile) as usize];
    Some(Interval { low: at(0.025), median: median_of_all, high: at(0.975) })
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_encloses_the_median_and_is_as_wide_as_the_samples_disagree() {
        let same = interval(&[2.0; 9]).expect("nine");
        assert_eq!((same.low, same.median, same.high), (2.0, 2.0, 2.0));
        let spread = interval(&[1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 9.0]).expect("nine");
        assert_eq!(spread.median, 1.4);
        // Of nine values the median's interval ends at the third and the seventh or next to them;
        // one that is far off does not move it.
        assert!((1.1..=1.2).contains(&spread.low), "{spread:?}");
        assert!((1.6..=1.7).contains(&spread.high), "{spread:?}");
        assert_eq!(interval(&[]), None);
    }
}
