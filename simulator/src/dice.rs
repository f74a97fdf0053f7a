//! Seeded randomness: the same seed and the same calls give the same cloud. `SplitMix64`,
//! cloneable, no entropy.

use std::time::Duration;

/// A generator that a snapshot of the cloud can copy.
#[derive(Clone, Debug)]
pub struct Dice(u64);

const BASE_36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

impl Dice {
    /// A generator of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// True with this probability.
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits are kept, which a double holds exactly"
    )]
    pub fn draw_chance(&mut self, probability: f64) -> bool {
        ((self.roll() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }

    /// A duration within `range`, both ends included.
    pub fn draw_duration(&mut self, range: (Duration, Duration)) -> Duration {
        let span =
            u64::try_from((range.1.saturating_sub(range.0)).as_micros()).unwrap_or(u64::MAX - 1);
        range.0 + Duration::from_micros(self.roll() % (span + 1))
    }

    /// `length` characters of base 36.
    pub fn draw_word(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(BASE_36[(self.roll() % 36) as usize])).collect()
    }

    /// An upper-case UUID, as `RequestId` is.
    pub fn request_id(&mut self) -> String {
        let (high, low) = (self.roll(), self.roll());
        let (a, b, c) = (high >> 32, (high >> 16) & 0xFFFF, high & 0x0FFF);
        format!(
            "{a:08X}-{b:04X}-4{c:03X}-{:04X}-{:012X}",
            0x8000 | ((low >> 48) & 0x3FFF),
            low & 0xFFFF_FFFF_FFFF
        )
    }
}

/// `number` in base 36, six digits: ids that start with it sort in the order they were made.
pub fn sortable_ordinal(mut number: u64) -> String {
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE_36[(number % 36) as usize];
        number /= 36;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_sort_as_their_numbers_do() {
        assert!(
            sortable_ordinal(35) < sortable_ordinal(36)
                && sortable_ordinal(36) < sortable_ordinal(1_000_000)
        );
        assert_eq!(sortable_ordinal(36), "000010");
    }

    #[test]
    fn a_chance_of_zero_never_and_of_one_always_comes() {
        let mut dice = Dice::new(7);
        assert!((0..1000).all(|_| !dice.draw_chance(0.0) && dice.draw_chance(1.0)));
    }
}
