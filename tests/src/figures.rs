//! What `compare` makes of its figures: the comparison of a row, its target, and the spread of
//! some rounds.

/// How a row compares ours with theirs, and its target.
#[derive(Clone, Copy, Debug)]
pub enum Criterion {
    /// More is better: ours divided by theirs, and the least acceptable ratio.
    Ratio(Option<f64>),
    /// Less is better: ours divided by theirs, and the greatest acceptable ratio.
    Cost(Option<f64>),
    /// Less is better: ours minus theirs, and the greatest acceptable difference.
    Excess(Option<f64>),
}

impl Criterion {
    /// Compares the two figures of a round.
    #[must_use]
    pub fn compare(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::Ratio(_) | Self::Cost(_) => ours / theirs,
            Self::Excess(_) => ours - theirs,
        }
    }

    /// Returns whether the result of a comparison meets the target. Without a target all do.
    #[must_use]
    pub fn is_met(self, beside: f64) -> bool {
        match self {
            Self::Ratio(least) => least.is_none_or(|least| beside >= least),
            Self::Cost(most) | Self::Excess(most) => most.is_none_or(|most| beside <= most),
        }
    }

    /// Returns the target as text.
    #[must_use]
    pub fn target(self) -> Option<String> {
        match self {
            Self::Ratio(least) => least.map(|least| format!(">= {least}")),
            Self::Cost(most) => most.map(|most| format!("<= {most}")),
            Self::Excess(most) => most.map(|most| format!("<= +{most}")),
        }
    }
}

/// The target of a figure without a counterpart.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// The least acceptable figure.
    AtLeast(f64),
    /// The greatest acceptable figure.
    AtMost(f64),
}

impl Target {
    /// Returns whether a figure meets the target.
    #[must_use]
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    /// Returns the target as text.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {least}"),
            Self::AtMost(most) => format!("<= {most}"),
        }
    }
}

/// The median of some values, with the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The lowest value.
    pub lowest: f64,
    /// The value in the middle; of an even number of values the higher of two.
    pub median: f64,
    /// The highest value.
    pub highest: f64,
}

impl Spread {
    /// Returns the spread of `values`.
    ///
    /// # Panics
    /// When there is no value.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        Self {
            lowest: values[0],
            median: values[values.len() / 2],
            highest: values[values.len() - 1],
        }
    }

    /// Returns the spread as text, with two digits after the point: more where all values are small,
    /// and none where one is large.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { lowest, median, highest } = self;
        let digits = match lowest.abs().max(highest.abs()) {
            most if most < 0.1 => 3,
            most if most < 1e3 => 2,
            _ => 0,
        };
        format!("{median:.digits$} ({lowest:.digits$}..{highest:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_and_a_cost_divide_and_an_excess_subtracts() {
        assert_eq!(Criterion::Ratio(None).compare(3.0, 4.0).to_bits(), 0.75_f64.to_bits());
        assert_eq!(Criterion::Cost(None).compare(6.0, 4.0).to_bits(), 1.5_f64.to_bits());
        assert_eq!(Criterion::Excess(None).compare(6.0, 4.0).to_bits(), 2.0_f64.to_bits());
    }

    #[test]
    fn a_target_is_met_from_its_own_side() {
        let ratio = Criterion::Ratio(Some(0.8));
        assert!(ratio.is_met(0.8) && ratio.is_met(2.0) && !ratio.is_met(0.79));
        for most in [Criterion::Cost(Some(1.3)), Criterion::Excess(Some(1.3))] {
            assert!(most.is_met(1.3) && most.is_met(-2.0) && !most.is_met(1.31));
        }
        assert!(Target::AtLeast(5.0).is_met(5.0) && !Target::AtLeast(5.0).is_met(4.9));
        assert!(Target::AtMost(5.0).is_met(5.0) && !Target::AtMost(5.0).is_met(5.1));
    }

    #[test]
    fn a_row_without_a_target_is_always_met() {
        for criterion in [Criterion::Ratio(None), Criterion::Cost(None), Criterion::Excess(None)] {
            assert!(criterion.is_met(0.0) && criterion.is_met(1e9));
            assert_eq!(criterion.target(), None);
        }
        // A figure that is none meets no target: it is not a number.
        assert!(!Criterion::Ratio(Some(0.8)).is_met(f64::NAN));
        assert!(!Criterion::Cost(Some(1.3)).is_met(f64::NAN));
    }

    #[test]
    fn a_target_reads_as_a_comparison() {
        let texts = [Criterion::Ratio(Some(0.8)), Criterion::Cost(Some(1.3))]
            .map(|criterion| criterion.target().unwrap());
        assert_eq!(texts, [">= 0.8", "<= 1.3"]);
        assert_eq!(Criterion::Excess(Some(5.0)).target().unwrap(), "<= +5");
        assert_eq!(
            (Target::AtLeast(5.0).text(), Target::AtMost(1.0).text()),
            (">= 5".to_owned(), "<= 1".to_owned())
        );
    }

    #[test]
    fn the_median_is_in_the_middle_in_any_order() {
        let spread = Spread::of(&[3.0, 1.0, 10.0]);
        assert_eq!(spread, Spread { lowest: 1.0, median: 3.0, highest: 10.0 });
        assert_eq!(spread.text(), "3.00 (1.00..10.00)");
        assert_eq!(Spread::of(&[0.0034, 0.0123]).text(), "0.012 (0.003..0.012)");
        assert_eq!(Spread::of(&[-2_744.3, 5.0]).text(), "5 (-2744..5)");
        assert_eq!(Spread::of(&[2_744.3, 999.6]).text(), "2744 (1000..2744)");
        assert_eq!(Spread::of(&[7.0]), Spread { lowest: 7.0, median: 7.0, highest: 7.0 });
        assert_eq!(Spread::of(&[1.0, 2.0]).median.to_bits(), 2.0_f64.to_bits());
    }
}
