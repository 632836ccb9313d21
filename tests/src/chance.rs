//! Numbers that look random and are the same for the same seed.

/// `SplitMix64`, which is enough to choose moments.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, from 0 up to but not including 1.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, so an iterator would only add an unwrap"
    )]
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The upper 32 bits, which a float holds exactly.
        f64::from(u32::try_from(mixed >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a choice among few"
        )]
        let chosen = (self.next() * limit as f64) as usize;
        chosen.min(limit.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_they_fill_the_range() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            (0..1_000).map(|_| chance.next()).collect::<Vec<_>>()
        };
        let numbers = draw(7);
        assert_eq!(numbers, draw(7));
        assert_ne!(numbers, draw(8));
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(numbers.iter().any(|number| *number < 0.1) && numbers.iter().any(|number| *number > 0.9));
        let mut chance = Chance::new(1);
        let chosen: std::collections::BTreeSet<_> = (0..100).map(|_| chance.below(3)).collect();
        assert_eq!(chosen, [0, 1, 2].into());
    }
}
