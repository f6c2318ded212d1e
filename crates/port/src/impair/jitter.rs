//! How a delay varies: the distributions that netem ships, by formula and not by table.

use super::settings::Distribution;

/// How far the tables of netem reach, in units of the jitter.
const FARTHEST: f64 = 4.0;

/// The exponent of netem's Pareto distribution.
const PARETO_EXPONENT: f64 = 3.0;

/// Returns by how much a delay is off its mean, in units of the jitter. `random` is any number, and
/// each is as likely.
pub(super) fn deviation(distribution: Distribution, random: u64) -> f64 {
    // In the middle of one of 2^52 parts of the range from 0 to 1, so that no end is met.
    let place = ((random >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    match distribution {
        Distribution::Uniform => 2.0 * place - 1.0,
        Distribution::Normal => normal(place),
        Distribution::Pareto => pareto(place),
        Distribution::ParetoNormal => 0.25 * normal(place) + 0.75 * pareto(place),
    }
}

/// The quantile of netem's Pareto distribution, whose mean is 0.
fn pareto(place: f64) -> f64 {
    (((1.0 - place).powf(-1.0 / PARETO_EXPONENT) - 1.5) * (4.0 / 3.0)).min(FARTHEST)
}

/// The quantile of the normal distribution, by the rational approximation of Acklam, which is off
/// by less than one part in 10^8.
fn normal(place: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    const TAIL: f64 = 0.024_25;
    let polynomial = |factors: &[f64], at: f64| factors.iter().fold(0.0, |sum, f| sum * at + f);
    let tail = |place: f64| {
        let at = (-2.0 * place.ln()).sqrt();
        polynomial(&C, at) / polynomial(&D, at)
    };
    let value = if place < TAIL {
        tail(place)
    } else if place > 1.0 - TAIL {
        -tail(1.0 - place)
    } else {
        let off = place - 0.5;
        off * polynomial(&A, off * off) / polynomial(&B, off * off)
    };
    value.clamp(-FARTHEST, FARTHEST)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    /// Returns the mean, the standard deviation, the least and the greatest of 200,000 deviations.
    fn moments(distribution: Distribution) -> (f64, f64, f64, f64) {
        let mut random = Rng::with_seed(1);
        let drawn: Vec<f64> =
            (0..200_000).map(|_| deviation(distribution, random.u64(..))).collect();
        let count = drawn.len() as f64;
        let mean = drawn.iter().sum::<f64>() / count;
        let variance = drawn.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / count;
        let fold = |pick: fn(f64, f64) -> f64| drawn.iter().copied().reduce(pick).expect("some");
        (mean, variance.sqrt(), fold(f64::min), fold(f64::max))
    }

    #[test]
    fn each_distribution_has_its_mean_width_and_ends() {
        let near = |value: f64, expected: f64| (value - expected).abs() < 0.02;
        let (mean, width, least, most) = moments(Distribution::Uniform);
        assert!(near(mean, 0.0) && near(width, 1.0 / 3_f64.sqrt()));
        assert!((-1.0..=-0.99).contains(&least) && (0.99..=1.0).contains(&most));
        let (mean, width, least, most) = moments(Distribution::Normal);
        assert!(near(mean, 0.0) && near(width, 1.0), "{mean} {width}");
        assert!((-4.0..-3.5).contains(&least) && (3.5..=4.0).contains(&most));
        let (mean, _, least, most) = moments(Distribution::Pareto);
        // The far end is cut off, as in netem.
        assert!((-0.06..0.01).contains(&mean), "{mean}");
        assert!((-0.67..-0.66).contains(&least) && most == 4.0);
        let (mean, _, least, most) = moments(Distribution::ParetoNormal);
        assert!((-0.06..0.01).contains(&mean), "{mean}");
        assert!(least > -2.0 && most <= 4.0);
    }

    #[test]
    fn quantiles_of_the_normal_distribution_are_those_of_the_books() {
        for (place, value) in
            [(0.5, 0.0), (0.841_344_746, 1.0), (0.975, 1.959_964), (0.01, -2.326_348)]
        {
            assert!((normal(place) - value).abs() < 1e-5, "{place}");
        }
        for random in [0, u64::MAX] {
            let all = [
                Distribution::Uniform,
                Distribution::Normal,
                Distribution::Pareto,
                Distribution::ParetoNormal,
            ];
            assert!(all.iter().all(|one| deviation(*one, random).abs() <= FARTHEST));
        }
    }
}
