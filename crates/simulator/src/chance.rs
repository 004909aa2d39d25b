//! Seeded draws: every number comes from the seed and the names of what it is for, so order never matters.

/// A stream of draws (SplitMix64).
#[derive(Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    /// The stream that belongs to `seed` and `purpose`.
    pub(crate) fn of(seed: u64, purpose: &[u64]) -> Draws {
        Draws(purpose.iter().fold(scramble(seed), |state, part| scramble(state ^ part)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// Uniform in `(0, 1)`: never 0, so that its logarithm exists.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// An id of the shape the vendor uses (UUID, version 4).
    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        let variant = 0x8000 | (low >> 48 & 0x3fff);
        format!("{:08x}-{:04x}-4{:03x}-{variant:04x}-{:012x}", high >> 32, high >> 16 & 0xffff, high & 0xfff, low & 0xffff_ffff_ffff)
    }
}

/// A number for a name (FNV-1a).
pub(crate) fn number_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn scramble(state: u64) -> u64 {
    let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_spread_evenly_and_normals_have_unit_variance() {
        let mut draws = Draws::of(1, &[2]);
        let mean = (0..20_000).map(|_| draws.unit()).sum::<f64>() / 20_000.0;
        let variance = (0..20_000).map(|_| draws.normal().powi(2)).sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.01 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn an_id_has_the_shape_of_a_uuid() {
        let id = Draws::of(1, &[]).uuid();
        assert_eq!(id.len(), 36);
        assert_eq!((&id[8..9], &id[14..15], &id[23..24]), ("-", "4", "-"));
    }
}
