//! Repeated figures, and how they are shown.

/// Figures of the same thing, one a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    /// Adds a round's figure.
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// The middle one, or the mean of the two in the middle.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        } else {
            sorted[middle]
        }
    }

    /// The smallest.
    pub(crate) fn lowest(&self) -> f64 {
        self.sorted()[0]
    }

    /// The largest.
    pub(crate) fn highest(&self) -> f64 {
        *self.sorted().last().expect("there is at least one figure")
    }

    fn sorted(&self) -> Vec<f64> {
        assert!(!self.0.is_empty(), "there is at least one figure");
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted
    }
}
